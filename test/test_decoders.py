"""Decoders of perception, and codecs that take another's place: what they read, whom they serve, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import write_official
from diffusers import AutoencoderTiny
from torch import nn

from diffusion_perception_ros.cli import main
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.codec import PixelUnshuffleCodec
from diffusion_perception_ros.model.decoders import FeatureDecoder, LatentDecoder, PerceptionDecoder
from diffusion_perception_ros.model.decoders.matching import Matching
from diffusion_perception_ros.pipeline import PerceptionPipeline

IMAGE, NEXT = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), np.uint8)
MASKS = np.zeros((48, 64), np.uint8)
MASKS[10:30, 20:50] = 1
ALL = {"depth": [1000], "amodal": [1001], "flow": [1002, 1003]}
STEM: dict[str, Any] = {"stem_channels": 16, "stem_levels": 2, "patch_size": 2, "correlation_radius": 1}


def convolutional() -> PerceptionPipeline:
    """Pixels as latents, with convolutions that compare image and prompt, as in the embedded checkpoint."""
    codec = PixelUnshuffleCodec(4)
    return PerceptionPipeline.random(64, codec=codec, in_channels=144, out_channels=48, **STEM)


def decoder_for(
    pipe: PerceptionPipeline, kind: type[PerceptionDecoder], tasks: Mapping[str, Sequence[int]] = ALL, **sizes: Any
) -> PerceptionDecoder:
    torch.manual_seed(0)
    channels = 1 if set(tasks) <= {"depth", "flow"} else 3
    own: dict[str, Any] = {"layers": [0, 1]} if kind is FeatureDecoder else {}
    own |= {"tasks": tasks, "channels": 16, "out_channels": channels}
    made: PerceptionDecoder = kind(**{**own, **kind.sizes(pipe.transformer, pipe.codec), **sizes})
    for name, parameter in made.named_parameters():
        if "modulation" in name:
            nn.init.normal_(parameter, std=0.1)
    made.eval().requires_grad_(False)
    return made


def with_decoder(pipe: PerceptionPipeline, decoder: PerceptionDecoder) -> PerceptionPipeline:
    return PerceptionPipeline(pipe.transformer, pipe.codec, pipe.scheduler_config, pipe.metadata, decoder)


def same(a: Any, b: Any, tolerance: float = 1e-3) -> bool:
    """Whether two answers are equal but for rounding, which depends on batch sizes and places in memory."""
    return bool(np.allclose(a, b, rtol=0, atol=tolerance, equal_nan=True))


def test_latents_are_decoded_for_the_tasks_that_are_served_alone(pipe: PerceptionPipeline) -> None:
    decoder = decoder_for(pipe, LatentDecoder, {"depth": [1000], "flow": [1002, 1003]})
    served = with_decoder(pipe, decoder)
    mine, full = (each(IMAGE, NEXT, MASKS, num_inference_steps=2) for each in (served, pipe))
    assert mine.amodal
    assert full.amodal
    assert same(mine.amodal[0].appearance, full.amodal[0].appearance, 1)
    assert not same(mine.depth_relative, full.depth_relative)
    # One channel is what the mean of three would be, and the decoder reads the last latents of any number of steps.
    request = pipe.request(IMAGE, tasks=("depth",), num_inference_steps=2)
    reached: list[torch.Tensor] = []
    hook = decoder.register_forward_pre_hook(lambda module, inputs: reached.append(inputs[1]))
    (alone,) = served.batch([request])
    hook.remove()
    image = decoder(torch.tensor([1000]), reached[0])
    assert image.shape == (1, 1, 64, 64)
    side = torch.nn.functional.interpolate((image.clamp(-1, 1) + 1) / 2, (48, 64), mode="bilinear", antialias=True)
    assert np.abs(alone.depth_relative - side[0, 0].numpy()).mean() < 0.02


def test_labels_of_a_latent_decoder_differ_and_batches_do_not_matter(pipe: PerceptionPipeline) -> None:
    decoder = decoder_for(pipe, LatentDecoder)
    nn.init.normal_(decoder.label_bias.weight)
    latents = torch.randn(1, 4, 8, 8).expand(4, -1, -1, -1)
    labels = torch.tensor([1000, 1001, 1002, 1003])
    images = decoder(labels, latents)
    assert all(not torch.allclose(images[i], images[j]) for i in range(4) for j in range(i))
    assert torch.allclose(images, torch.cat([decoder(labels[i : i + 1], latents[:1]) for i in range(4)]), atol=1e-5)


@pytest.mark.parametrize("thin_stem", [0, 8])
def test_features_are_decoded_without_latents(thin_stem: int, monkeypatch: pytest.MonkeyPatch) -> None:
    full = convolutional()
    sizes: dict[str, Any] = {"thin_stem": thin_stem, "correlation_radius": 1} if thin_stem else {}
    decoder = decoder_for(full, FeatureDecoder, lookup_radius=1, matched_labels=[1002, 1003], **sizes)
    pipe = with_decoder(full, decoder)
    together = pipe(IMAGE, NEXT, MASKS)

    def refuse(*arguments: object) -> None:
        raise AssertionError("computed for nothing")

    for name in ["final_layer", "head", *(["stem"] if thin_stem else [])]:
        full.transformer.get_submodule(name).register_forward_pre_hook(refuse)
    monkeypatch.setattr(PixelUnshuffleCodec, "decode", refuse)
    again = pipe(IMAGE, NEXT, MASKS)
    assert same(together.flow, again.flow)
    # Whoever shares the batch, and whoever of it is compared, changes nothing.
    for task, field in (("depth", "depth_relative"), ("flow", "flow")):
        alone = pipe(IMAGE, NEXT, tasks=(task,))
        assert same(getattr(alone, field), getattr(together, field))
    with pytest.raises(AssertionError, match="for nothing"):
        pipe(IMAGE, num_inference_steps=2)
    assert pipe.decoding(1) == "PixelUnshuffle, features decoder"
    assert pipe.decoding(2) == full.decoding(1) == "PixelUnshuffle"


def test_features_of_some_tasks(pipe: PerceptionPipeline) -> None:
    served = with_decoder(pipe, decoder_for(pipe, FeatureDecoder, {"depth": [1000]}))
    mine, full = (each(IMAGE, NEXT, MASKS) for each in (served, pipe))
    assert same(mine.flow, full.flow)
    assert not same(mine.depth_relative, full.depth_relative)


def test_blocks_after_the_last_that_is_read_are_not_computed(pipe: PerceptionPipeline) -> None:
    x, labels = torch.randn(2, 12, 8, 8), torch.tensor([1000, 1002])
    first = pipe.transformer.features(x, pipe.transformer.condition(torch.tensor([999]), labels), labels, (0,))
    both = pipe.transformer.features(x, pipe.transformer.condition(torch.tensor([999]), labels), labels, (0, 1))
    assert len(first.tokens) == 1
    assert torch.equal(first.tokens[0], both.tokens[0])
    assert torch.equal(pipe.transformer.predict(both), pipe.transformer(x, torch.tensor(999), labels).sample)


def test_a_block_may_be_read_at_several_resolutions(pipe: PerceptionPipeline) -> None:
    x, labels = torch.randn(2, 12, 8, 8), torch.tensor([1000, 1002])
    tokens = pipe.transformer.features(
        x, pipe.transformer.condition(torch.tensor([999]), labels), labels, (0, 0)
    ).tokens
    assert len(tokens) == 2
    assert torch.equal(*tokens)


def test_what_is_compared_is_the_same_however_it_is_computed() -> None:
    pipe = convolutional()
    decoder = decoder_for(
        pipe, FeatureDecoder, lookup_radius=1, matched_labels=[1002], thin_stem=8, correlation_radius=1
    )
    labels = torch.tensor([1000, 1002, 1003])
    x = torch.randn(3, 144, 16, 16)

    def answer() -> torch.Tensor:
        features = pipe.transformer.features(
            x, pipe.transformer.condition(torch.tensor([999]), labels), labels, decoder.layers, decoder.stem
        )
        images: torch.Tensor = decoder(labels, features)
        return images

    chosen = answer()
    decoder.train()  # as on an accelerator: all samples are compared, and what is not wanted counts nothing
    assert torch.allclose(chosen, answer(), atol=1e-5)
    matching = Matching([1002])
    matched = matching.eval()(labels)
    assert matched is not None
    assert matched.rows.tolist() == [1]
    assert matching(torch.tensor([1000])) is None


def test_it_is_saved_in_the_checkpoint_and_chosen_by_name(pipe: PerceptionPipeline, tmp_path: Path) -> None:
    served = with_decoder(pipe, decoder_for(pipe, FeatureDecoder))
    served.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "decoders" / "features" / "config.json").read_text())
    assert config["tasks"] == ALL
    loaded = PerceptionPipeline.from_pretrained(tmp_path)
    assert loaded.metadata.decoder == "features"
    assert same(loaded(IMAGE, NEXT).flow, served(IMAGE, NEXT).flow)
    full = PerceptionPipeline.from_pretrained(tmp_path, decoder="full")
    assert same(full(IMAGE, NEXT).flow, pipe(IMAGE, NEXT).flow)
    with pytest.raises(InputError, match=r"there is no decoder 'latent' in it; use full or features, or train one"):
        PerceptionPipeline.from_pretrained(tmp_path, decoder="latent")
    # Folders from before there were decoders say nothing about them.
    values = json.loads((tmp_path / "perception.json").read_text())
    del values["decoder"]
    (tmp_path / "perception.json").write_text(json.dumps(values))
    assert PerceptionPipeline.from_pretrained(tmp_path).decoder is None


@pytest.mark.parametrize(
    ("kind", "tasks", "sizes", "message"),
    [
        (LatentDecoder, {"depth": [1007]}, {}, r"with the labels \[1007\], but .* the labels \[1000\] for it"),
        (LatentDecoder, {"normals": [1005]}, {}, "has none for it"),
        (LatentDecoder, {"amodal": [1001]}, {"out_channels": 1}, "task 'amodal' needs three"),
        (LatentDecoder, ALL, {"downscale": 4}, "was made for downscale 4, but this checkpoint has 8"),
        (FeatureDecoder, ALL, {"layers": [0, 7]}, "reads block 7, but the transformer's last is 1"),
        (FeatureDecoder, ALL, {"hidden_size": 32}, "was made for hidden_size 32"),
    ],
)
def test_a_decoder_of_another_checkpoint_is_refused(
    pipe: PerceptionPipeline, kind: type[PerceptionDecoder], tasks: dict[str, list[int]], sizes: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        with_decoder(pipe, decoder_for(pipe, kind, tasks, **sizes))


@pytest.fixture(scope="module")
def tiny_vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the released tiny autoencoder for Stable Diffusion's latents comes, but small."""
    folder = tmp_path_factory.mktemp("taesd")
    torch.manual_seed(0)
    AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4).save_pretrained(folder)
    released = {
        "_class_name": "AutoencoderTiny", "_diffusers_version": "0.20.0.dev0", "act_fn": "relu",
        "decoder_block_out_channels": [8] * 4, "encoder_block_out_channels": [8] * 4, "force_upcast": False,
        "in_channels": 3, "latent_channels": 4, "latent_magnitude": 3, "latent_shift": 0.5,
        "num_decoder_blocks": [3, 3, 3, 1], "num_encoder_blocks": [1, 3, 3, 3], "out_channels": 3,
        "scaling_factor": 1.0, "upsampling_scaling_factor": 2,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(released))
    return folder


def test_a_tiny_autoencoder_takes_the_place_of_the_codec(
    tiny_vae: Path, stable_diffusion: Path, tmp_path: Path
) -> None:
    write_official(tmp_path / "a.pt")
    # Of the codec that it replaces only the config is read.
    shutil.copytree(stable_diffusion, tmp_path / "sd")
    (tmp_path / "sd" / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    pipe = PerceptionPipeline.from_official(tmp_path / "a.pt", tmp_path / "sd", num_attention_heads=4, codec=tiny_vae)
    vae = AutoencoderTiny.from_pretrained(tiny_vae)
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        # Its latents are scaled already.
        torch.testing.assert_close(pipe.codec.encode(images), vae.encode(images).latents)
        latents = torch.randn(1, 4, 8, 8)
        torch.testing.assert_close(pipe.codec.decode(latents), vae.decode(latents).sample)
    pipe.save_pretrained(tmp_path / "saved")
    assert PerceptionPipeline.from_pretrained(tmp_path / "saved").codec.name == "AutoencoderTiny"


def test_the_command_line_takes_it(
    pipe: PerceptionPipeline, tiny_vae: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe.save_pretrained(tmp_path / "checkpoint")
    options = [
        "evaluate",
        "--checkpoint",
        str(tmp_path / "checkpoint"),
        "--samples",
        "1",
        "--sequences",
        "0",
        "--json",
        "--time",
    ]
    assert main([*options, "--codec", str(tiny_vae), "--device", "cpu"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["settings"]["codec"] == "AutoencoderTiny"
    assert report["stage_ms"].keys() == {"encode", "denoise", "decode"}
    assert main([*options, "--decoder", "latent"]) == 2
    assert "there is no decoder 'latent' in it; use full, or train one" in capsys.readouterr().err


def test_a_codec_of_other_latents_is_refused(pipe: PerceptionPipeline, tiny_vae: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"have 4 channels and are 8 times smaller.*PixelUnshuffle 48 and 4 times"):
        PerceptionPipeline.embedded("cpu", codec=tiny_vae)
    pipe.save_pretrained(tmp_path)
    for name, value, message in (
        ("latent_channels", 16, "have 16 channels"),
        ("encoder_block_out_channels", [8] * 3, "4 times smaller"),
        ("encoder_block_out_channels", None, "does not say what latents"),
        ("_class_name", "VQModel", "VQModel is not supported"),
    ):
        folder = tmp_path / f"{name}_{value}"
        shutil.copytree(tiny_vae, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, name: value}))
        with pytest.raises(InputError, match=message):
            PerceptionPipeline.from_pretrained(tmp_path, codec=folder)
    with pytest.raises(InputError, match=r"no config\.json in it"):
        PerceptionPipeline.from_pretrained(tmp_path, codec=tmp_path / "scheduler")
