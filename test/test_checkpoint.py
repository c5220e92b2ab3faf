"""Checkpoint folders: written, converted, read back, and what is said of broken ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SMALL, write_official
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file

from diffusion_perception_ros.checkpoint import convert_official
from diffusion_perception_ros.cli import main
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model import folder as checkpoint_folder
from diffusion_perception_ros.model.codec import AutoencoderCodec, PixelUnshuffleCodec
from diffusion_perception_ros.model.metadata import CheckpointMetadata
from diffusion_perception_ros.model.random import random_transformer
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.sampling.samplers import SAMPLERS

HEADS = ["--num-attention-heads", "4"]
CONVOLUTIONS: dict[str, Any] = {
    "patch_size": 4,
    "stem_channels": 16,
    "stem_levels": 2,
    "correlation_radius": 2,
    "lookup_radius": 1,
}


def weights_of(pipe: PerceptionPipeline) -> dict[str, torch.Tensor]:
    assert isinstance(pipe.codec, AutoencoderCodec)
    vae: dict[str, torch.Tensor] = pipe.codec.vae.state_dict()
    return {**pipe.transformer.state_dict(), **{f"vae.{key}": value for key, value in vae.items()}}


def test_saved_and_loaded_is_the_same(tmp_path: Path, pipe: PerceptionPipeline) -> None:
    pipe.save_pretrained(tmp_path / "saved")
    loaded = PerceptionPipeline.from_pretrained(tmp_path / "saved")
    assert loaded.metadata == pipe.metadata
    assert all(loaded.scheduler_config[key] == value for key, value in pipe.scheduler_config.items())
    assert loaded.transformer.config.items() >= {**SMALL, "hidden_size": 64, "num_layers": 2, "mlp_size": 256}.items()
    want = weights_of(pipe)
    assert weights_of(loaded).keys() == want.keys()
    assert all(torch.equal(value, want[name]) for name, value in weights_of(loaded).items())


def test_loads_straight_in_half_precision(tmp_path: Path, pipe: PerceptionPipeline) -> None:
    pipe.save_pretrained(tmp_path)
    loaded = PerceptionPipeline.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert loaded.dtype == torch.bfloat16
    assert {p.dtype for p in loaded.transformer.parameters()} == {torch.bfloat16}
    depth = loaded(np.zeros((60, 80, 3), np.uint8), tasks=("depth",)).depth_relative
    assert depth is not None
    assert np.isfinite(depth).all()


@pytest.mark.parametrize("sharded", [False, True])
def test_convert_streams_what_loading_and_saving_would_write(
    tmp_path: Path, stable_diffusion: Path, monkeypatch: pytest.MonkeyPatch, sharded: bool
) -> None:
    write_official(tmp_path / "a.pt")
    if sharded:
        monkeypatch.setattr(checkpoint_folder, "_SHARD_SIZE", "100KB")
    assert main(["convert", str(tmp_path / "a.pt"), str(stable_diffusion), str(tmp_path / "out"), *HEADS]) == 0
    files = list((tmp_path / "out" / "transformer").glob("*.safetensors"))
    assert (len(files) > 1) == sharded
    converted = PerceptionPipeline.from_pretrained(tmp_path / "out")
    want = PerceptionPipeline.from_official(tmp_path / "a.pt", stable_diffusion, num_attention_heads=4)
    assert converted.metadata == want.metadata
    assert dict(converted.transformer.config).items() >= {**SMALL}.items()
    assert all(torch.equal(value, weights_of(want)[name]) for name, value in weights_of(converted).items())


def test_convert_to_bfloat16(tmp_path: Path, stable_diffusion: Path) -> None:
    write_official(tmp_path / "a.pt")
    arguments = ["convert", str(tmp_path / "a.pt"), str(stable_diffusion), str(tmp_path / "out"), *HEADS]
    assert main([*arguments, "--dtype", "bfloat16"]) == 0
    stored = load_file(tmp_path / "out" / "transformer" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.bfloat16}


def test_convert_refuses_what_it_would_destroy(
    tmp_path: Path, stable_diffusion: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_official(tmp_path / "a.pt")
    arguments = ["convert", str(tmp_path / "a.pt"), str(stable_diffusion), str(tmp_path / "out"), *HEADS]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("ten years")
    assert main(arguments) == 2
    assert "use --overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 2
    assert "is no checkpoint folder" in capsys.readouterr().err
    assert (tmp_path / "out" / "thesis.txt").read_text() == "ten years"
    shutil.rmtree(tmp_path / "out")
    assert main(arguments) == 0
    assert main([*arguments, "--overwrite"]) == 0


def test_convert_to_where_nothing_can_be(
    tmp_path: Path, stable_diffusion: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_official(tmp_path / "a.pt")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for out in (tmp_path / "a.pt" / "out", Path("/proc/nowhere/out"), tmp_path / "link", tmp_path / ("a" * 300)):
        assert main(["convert", str(tmp_path / "a.pt"), str(stable_diffusion), str(out), *HEADS]) == 2
        assert capsys.readouterr().err.startswith(f"diffusion-perception: error: {out} ")
    (tmp_path / "empty").mkdir()
    assert main(["convert", str(tmp_path / "a.pt"), str(stable_diffusion), str(tmp_path / "empty"), *HEADS]) == 0


def test_convert_leaves_nothing_of_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_official(tmp_path / "a.pt")
    (tmp_path / "sd").mkdir()
    assert main(["convert", str(tmp_path / "a.pt"), str(tmp_path / "sd"), str(tmp_path / "out"), *HEADS]) == 2
    assert "no scheduler/scheduler_config.json in it" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "sd"]


def test_tiny_codec_is_a_drop_in(tmp_path: Path, stable_diffusion: Path) -> None:
    torch.manual_seed(0)
    tiny = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8), scaling_factor=1.0
    )
    shutil.copytree(stable_diffusion, tmp_path / "sd")
    shutil.rmtree(tmp_path / "sd" / "vae")
    tiny.save_pretrained(tmp_path / "sd" / "vae")
    write_official(tmp_path / "a.pt")
    pipe = PerceptionPipeline.from_official(tmp_path / "a.pt", tmp_path / "sd", num_attention_heads=4)
    assert (pipe.codec.name, pipe.codec.downscale, pipe.codec.latent_channels) == ("AutoencoderTiny", 8, 4)
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        latents = pipe.codec.encode(images)
        # But for rounding: its convolutions have channels last.
        torch.testing.assert_close(latents, tiny.eval().encode(images).latents)
        torch.testing.assert_close(pipe.codec.decode(latents), tiny.decode(latents).sample)
    pipe.save_pretrained(tmp_path / "saved")
    assert PerceptionPipeline.from_pretrained(tmp_path / "saved").codec.name == "AutoencoderTiny"


def test_pixels_as_latents_behind_convolutions(tmp_path: Path) -> None:
    """What small checkpoints use: nothing is lost between pixels and latents, and convolutions around the tokens."""
    codec = PixelUnshuffleCodec(4)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    assert codec.encode(images).shape == (2, codec.latent_channels, 16, 16) == (2, 48, 16, 16)
    assert torch.equal(codec.decode(codec.encode(images)), images)
    pipe = PerceptionPipeline.random(64, codec=codec, in_channels=144, out_channels=48, **CONVOLUTIONS)
    frame = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    want = pipe(frame, frame[::-1])
    pipe.save_pretrained(tmp_path)
    loaded = PerceptionPipeline.from_pretrained(tmp_path)
    assert (loaded.codec.name, loaded.codec.downscale) == ("PixelUnshuffle", 4)
    got = loaded(frame, frame[::-1])
    assert want.depth_relative is not None
    assert got.depth_relative is not None
    assert want.flow is not None
    assert got.flow is not None
    assert want.depth_relative.std() > 1e-3
    # Weights mapped from a file are aligned otherwise in memory, and rounded otherwise in vector units.
    np.testing.assert_allclose(got.depth_relative, want.depth_relative, atol=1e-5)
    np.testing.assert_allclose(got.flow, want.flow, atol=1e-3)


def test_levels_of_convolutions_have_to_fit() -> None:
    with pytest.raises(ValueError, match="cannot be halved 2 times"):
        random_transformer(patch_size=2, stem_channels=16, stem_levels=3)
    with pytest.raises(ValueError, match="need convolutions"):
        random_transformer(correlation_radius=2)
    with pytest.raises(ValueError, match="set correlation_radius"):
        random_transformer(stem_channels=16, lookup_radius=2)


def edit_json(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def edit_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"
FLOW = {
    "kind": "displacement",
    "labels": [1002, 1003],
    "image_interpolation": "bilinear",
    "parameters": {"max_displacement": 75.0},
}
BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "there is no such folder"),
    "no metadata": (lambda f: (f / "perception.json").unlink(), "no perception.json in it"),
    "bad json": (lambda f: (f / "perception.json").write_text("{"), "not readable as JSON"),
    "field missing": (lambda f: edit_json(f / "perception.json", resolution=None), "'resolution' is missing"),
    "field unknown": (lambda f: edit_json(f / "perception.json", colour="red"), "unknown field 'colour'"),
    "wrong type": (lambda f: edit_json(f / "perception.json", resolution="big"), "perception.json: invalid literal"),
    "resolution": (lambda f: edit_json(f / "perception.json", resolution=128), "does not fit latents"),
    "encoding": (
        lambda f: edit_json(
            f / "perception.json",
            tasks={"depth": {"kind": "odd", "labels": [1000], "image_interpolation": "bilinear", "parameters": {}}},
        ),
        "does not know the target encoding 'odd'",
    ),
    "label": (
        lambda f: edit_json(
            f / "perception.json",
            tasks={"depth": {"kind": "affine", "labels": [7], "image_interpolation": "area", "parameters": {}}},
        ),
        "has no weights for",
    ),
    "no vae": (lambda f: shutil.rmtree(f / "vae"), "no vae/config.json in it"),
    "no vae weights": (lambda f: (f / "vae/diffusion_pytorch_model.safetensors").unlink(), "weights cannot be read"),
    "strange vae": (lambda f: edit_json(f / "vae/config.json", _class_name="VQModel"), "VQModel is not supported"),
    "no scheduler": (lambda f: shutil.rmtree(f / "scheduler"), "no scheduler/scheduler_config.json"),
    "bad schedule": (
        lambda f: edit_json(f / "scheduler/scheduler_config.json", beta_schedule="odd"),
        "scheduler_config.json: beta_schedule is 'odd'; use one of",
    ),
    "bad betas": (
        lambda f: edit_json(f / "scheduler/scheduler_config.json", beta_end="x"),
        "scheduler_config.json: beta_end is 'x'; expected a number above 0",
    ),
    "bad prediction": (
        lambda f: edit_json(f / "scheduler/scheduler_config.json", prediction_type="flow"),
        "prediction_type is 'flow'; use one of epsilon, sample, v_prediction",
    ),
    "reference size": (
        lambda f: edit_json(f / "perception.json", flow_reference_size=[0, 384]),
        "perception.json: resolution, flow_reference_size and num_inference_steps must be above 0",
    ),
    "is_random": (lambda f: edit_json(f / "perception.json", is_random="false"), "is_random must be true or false"),
    "no tasks": (lambda f: edit_json(f / "perception.json", tasks={}), "must declare at least one task"),
    "sampler": (lambda f: edit_json(f / "perception.json", sampler="euler"), "sampler 'euler' is unknown"),
    "one label for flow": (
        lambda f: edit_json(f / "perception.json", tasks={"flow": {**FLOW, "labels": [1002]}}),
        "'displacement' needs 2",
    ),
    "parameter": (
        lambda f: edit_json(f / "perception.json", tasks={"flow": {**FLOW, "parameters": {"max_displacement": -1}}}),
        "max_displacement = -1.0; expected a number above 0",
    ),
    "no parameter": (
        lambda f: edit_json(f / "perception.json", tasks={"flow": {**FLOW, "parameters": {}}}),
        "lacks the parameter 'max_displacement'",
    ),
    "no transformer": (lambda f: shutil.rmtree(f / "transformer"), "no transformer/config.json in it"),
    "cut weights": (lambda f: (f / TRANSFORMER).write_bytes((f / TRANSFORMER).read_bytes()[:5000]), "cannot be read"),
    "weight missing": (
        lambda f: edit_weights(f / TRANSFORMER, lambda w: w.pop("pos_embed")),
        "'pos_embed' is missing",
    ),
    "weight extra": (
        lambda f: edit_weights(f / TRANSFORMER, lambda w: w.update(surprise=torch.zeros(1))),
        "'surprise' does not belong there",
    ),
    "weight shape": (
        lambda f: edit_weights(f / TRANSFORMER, lambda w: w.update(pos_embed=torch.zeros(1, 9, 64))),
        "pos_embed",
    ),
}


@pytest.mark.parametrize(("damage", "sentence"), BROKEN.values(), ids=BROKEN)
def test_broken_folders(tmp_path: Path, pipe: PerceptionPipeline, damage: Callable[[Path], Any], sentence: str) -> None:
    pipe.save_pretrained(tmp_path / "saved")
    damage(tmp_path / "saved")
    with pytest.raises(InputError, match=sentence) as caught:
        PerceptionPipeline.from_pretrained(tmp_path / "saved")
    assert "\n" not in str(caught.value)


def test_parts_that_do_not_fit(pipe: PerceptionPipeline) -> None:
    other = PerceptionPipeline.random(128)
    with pytest.raises(InputError, match="does not fit latents"):
        PerceptionPipeline(other.transformer, pipe.codec, pipe.scheduler_config, pipe.metadata)
    wide = PerceptionPipeline.random(64).codec
    wide.latent_channels = 16
    with pytest.raises(InputError, match="3 x 16"):
        PerceptionPipeline(pipe.transformer, wide, pipe.scheduler_config, pipe.metadata)


# What Stable Diffusion 2 ships: written by an old diffusers, without keys that came later.
OLD_CONFIGS: dict[str, dict[str, Any]] = {
    "ddim": {
        "_class_name": "DDIMScheduler",
        "_diffusers_version": "0.8.0",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction",
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
    },
    "pndm": {
        "_class_name": "PNDMScheduler",
        "_diffusers_version": "0.7.0.dev0",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction",
        "skip_prk_steps": True,
        "steps_offset": 1,
    },
}


@pytest.mark.parametrize("config", OLD_CONFIGS.values(), ids=OLD_CONFIGS)
def test_samplers_on_an_old_scheduler_config(tmp_path: Path, config: dict[str, Any]) -> None:
    """Where the config leaves spacing out, the samplers' own must win, before and after saving."""
    pipe = PerceptionPipeline.random(64)
    pipe.save_pretrained(tmp_path)
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    loaded = PerceptionPipeline.from_pretrained(tmp_path)
    loaded.save_pretrained(tmp_path / "again")
    assert not any(str(tmp_path) in config.read_text() for config in (tmp_path / "again").rglob("config.json"))
    for each in (loaded, PerceptionPipeline.from_pretrained(tmp_path / "again")):
        for name, steps, first in (
            ("ddim_trailing", 4, 999),
            ("dpm_solver", 4, 999),
            ("one_step", 1, 999),
            ("ddim", 4, 751),
        ):
            scheduler = SAMPLERS[name].scheduler(each.scheduler_config)
            scheduler.set_timesteps(steps)
            assert int(scheduler.timesteps[0]) == first, name


def test_weights_are_as_readable_as_the_rest(tmp_path: Path, pipe: PerceptionPipeline) -> None:
    pipe.save_pretrained(tmp_path)
    assert len({path.stat().st_mode for path in tmp_path.rglob("*") if path.is_file()}) == 1


def test_metadata_round_trip(pipe: PerceptionPipeline) -> None:
    text = json.dumps(pipe.metadata.to_dict())
    assert CheckpointMetadata.from_dict(json.loads(text), "here") == pipe.metadata


def test_convert_official_says_what_is_wrong_before_it_writes(tmp_path: Path, stable_diffusion: Path) -> None:
    write_official(tmp_path / "a.pt", in_channels=8)
    with pytest.raises(InputError, match="takes 8 channels"):
        convert_official(tmp_path / "a.pt", stable_diffusion, tmp_path / "out", num_attention_heads=4)
    assert not (tmp_path / "out").exists()
    assert isinstance(checkpoint_folder.load_codec(stable_diffusion, torch.float32), AutoencoderCodec)


def test_unknown_device() -> None:
    for device, sentence in (("gpu", "is unknown"), ("cuda", "no CUDA GPU")):
        if device == "cuda" and torch.cuda.is_available():
            continue
        with pytest.raises(InputError, match=sentence):
            PerceptionPipeline.random(64, device=device)
