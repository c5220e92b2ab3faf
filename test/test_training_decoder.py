"""Stage 3: the losses of decoders, and whole runs whose checkpoints answer with what was trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from training_runs import CONFIGS, render_cache, tiny

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.tasks import Target
from diffusion_perception_ros.training import load_config, train
from diffusion_perception_ros.training.batches import Batches, Questions, ask
from diffusion_perception_ros.training.cache import render_records
from diffusion_perception_ros.training.decoder_answers import Decoded
from diffusion_perception_ros.training.decoder_config import DecoderConfig, HeadConfig
from diffusion_perception_ros.training.decoder_losses import gradient_matching, standardize
from diffusion_perception_ros.training.decoder_stage import DecoderStage
from diffusion_perception_ros.training.log import read_rows
from diffusion_perception_ros.training.sources_scenes import scene_frames

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of tiny.yaml's sizes and tasks, with random weights."""
    config = tiny()
    folder = tmp_path_factory.mktemp("checkpoint")
    codec = PerceptionPipeline.random(32).codec
    pipe = PerceptionPipeline.random(32, codec=codec, stem_channels=16, patch_size=2)
    pipe.metadata = replace(config.metadata(), name="random")
    pipe.save_pretrained(folder)
    (folder / "README.md").write_text("how it was trained")
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_cache(tmp_path_factory.mktemp("pairs"))


def decoder(checkpoint: Path, **changes: Any) -> DecoderConfig:
    config = load_config(CONFIGS / "tiny_decoder.yaml")
    assert isinstance(config, DecoderConfig)
    return replace(config, checkpoint=checkpoint, **changes)


def questions(config: DecoderConfig) -> list[Questions]:
    frames = scene_frames(render_records(range(3), 32), CPU)
    return [ask(config, name, frames) for name in config.tasks]


def test_depth_is_compared_without_scale_and_shift_and_edges_where_they_are_known() -> None:
    torch.manual_seed(0)
    x, valid = torch.randn(2, 16, 16), torch.ones(2, 16, 16, dtype=torch.bool)
    valid[:, :, :4] = False
    assert torch.allclose(standardize(3 * x + 1, valid), standardize(x, valid), atol=1e-4)
    # Unknown depth changes nothing.
    other = torch.where(valid, x, 100.0)
    assert torch.allclose(standardize(other, valid)[valid], standardize(x, valid)[valid], atol=1e-4)

    target = Target(torch.zeros(2, 1, 3, 16, 16), valid)
    tinted, edge = torch.full((2, 1, 16, 16), 0.3), torch.zeros(2, 1, 16, 16)
    edge[..., 8:] = 0.3
    unknown = torch.zeros(2, 1, 16, 16)
    unknown[..., :2] = 5
    assert gradient_matching(tinted, target).tolist() == [0, 0]
    assert gradient_matching(unknown, target).tolist() == [0, 0]
    # One of the differences between 12, 6 and 3 columns; of every eighth only one is known.
    assert gradient_matching(edge, target)[0].item() == pytest.approx(0.3 * (1 / 11 + 1 / 5 + 1 / 2), rel=1e-5)


@pytest.mark.parametrize(
    "head", [HeadConfig("latent", 8), HeadConfig("features", 8, layers=(0, 1))], ids=lambda h: h.kind
)
def test_losses_add_up_and_train_the_decoder_alone(checkpoint: Path, head: HeadConfig) -> None:
    stage = DecoderStage(decoder(checkpoint, decoder=head), CPU)
    losses, batch = stage.losses(), questions(stage.config)
    total, parts = losses(stage.network, batch, np.random.default_rng(0))
    again, _ = losses(stage.network, batch, np.random.default_rng(0))
    other, _ = losses(stage.network, batch, np.random.default_rng(1))
    assert total == again != other
    kinds = {"image", "gradient", "distillation"}
    assert parts.keys() == {f"{task}_{kind}" for task in ("depth", "amodal", "flow") for kind in kinds} | {
        "depth_scale_shift"
    }
    weight = {"image": 1.0, "scale_shift": 0.5, "gradient": 0.5, "distillation": 1.0}
    share = {"depth": 3 / 12, "amodal": 3 / 12, "flow": 3 * 6 / 12}
    expected = sum(share[n.split("_", 1)[0]] * weight[n.split("_", 1)[1]] * x.item() for n, x in parts.items())
    assert total.item() == pytest.approx(expected, rel=1e-4)
    total.backward()
    assert all(p.grad is not None for p in stage.network.parameters())
    assert all(p.grad is None for p in stage.pipe.transformer.parameters())
    assert stage.sample_flops() > 1e5
    assert {name.split(".")[0] for name in stage.network.state_dict()} == {"decoder"}


def test_a_decoder_that_agrees_with_the_codec_has_nothing_to_learn_from_it(checkpoint: Path) -> None:
    stage = DecoderStage(decoder(checkpoint, decoder=HeadConfig("latent", 8)), CPU)
    losses, batch = stage.losses(), questions(stage.config)
    codec = stage.pipe.codec

    class Same(torch.nn.Module):
        def forward(self, labels: torch.Tensor, latents: torch.Tensor) -> Any:
            return Decoded(codec.decode(latents), None, None)

    _, parts = losses(Same(), batch, np.random.default_rng(0))
    assert all(parts[f"{task}_distillation"] < 1e-5 for task in ("depth", "amodal", "flow"))


def test_a_thin_stem_learns_what_the_transformers_own_gives(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pipe = PerceptionPipeline.embedded("cpu")
    pipe.save_pretrained(tmp_path)
    base = load_config(CONFIGS / "small_thin.yaml")
    assert isinstance(base, DecoderConfig)
    config = replace(
        base, checkpoint=tmp_path, precision="no", batch_size=6, data=replace(base.data, pairs=4, flip=0.0)
    )
    stage = DecoderStage(config, CPU)
    frames = scene_frames(render_records(range(2), 128), CPU)
    batch = [ask(config, name, frames) for name in config.tasks]
    losses = stage.losses()
    total, parts = losses(stage.network, batch, np.random.default_rng(0))
    assert {"stem", "flow_lookup", "depth_lookup"} < parts.keys()
    total.backward()
    stem = stage.network.decoder.stem
    assert stem is not None
    assert all(p.grad is not None for p in stem.parameters())


@pytest.fixture(scope="module")
def run(checkpoint: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[DecoderConfig, Path]:
    torch.set_num_threads(1)
    config = decoder(checkpoint, steps=24, default=True)
    config = replace(
        config,
        data=replace(config.data, folder=pairs),
        optimizer=replace(config.optimizer, learning_rate=0.01),
        report=replace(config.report, log=1, checkpoint=8, validation=12, sheet=24),
    )
    out = tmp_path_factory.mktemp("decoder") / "out"
    assert train(config, out).step == 24
    return config, out


def curve(out: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k != "minutes"} for row in read_rows(out / "losses.csv")]


def test_it_learns_and_the_checkpoint_answers_with_it(run: tuple[DecoderConfig, Path], checkpoint: Path) -> None:
    out = run[1]
    losses = [float(row["loss"]) for row in curve(out)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    rows = read_rows(out / "validation.csv")
    assert {"abs_rel", "full_abs_rel", "epe", "full_epe", "iou", "full_iou"} < rows[0].keys()
    assert rows[0]["full_epe"] == rows[1]["full_epe"]
    assert cv2.imread(str(out / "sheets" / "0000024.png")) is not None

    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    pipe = PerceptionPipeline.from_pretrained(out / "last")
    assert pipe.decoding(1) == "AutoencoderKL, features decoder"
    full = PerceptionPipeline.from_pretrained(out / "last", decoder="full")
    before = PerceptionPipeline.from_pretrained(checkpoint)
    assert before.decoder is None
    depths = [np.asarray(each(image).depth_relative) for each in (before, full, pipe)]
    assert np.allclose(depths[1], depths[0], atol=1e-4)
    assert not np.allclose(depths[2], depths[0], atol=1e-2)
    assert not (out / "last" / "README.md").exists()
    # Weights have two names instead of two copies.
    weights = Path("transformer") / "diffusion_pytorch_model.safetensors"
    assert (out / "last" / weights).samefile(checkpoint / weights)


def test_after_a_crash_it_resumes_to_the_same_curve(
    run: tuple[DecoderConfig, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, uninterrupted = run
    whole = Batches.stream

    def crash(self: Batches, step: int) -> Iterator[tuple[int, int, list[Questions]]]:
        for number, part, batch in whole(self, step):
            if number == 13:
                raise MemoryError
            yield number, part, batch

    with monkeypatch.context() as context:
        context.setattr(Batches, "stream", crash)
        with pytest.raises(MemoryError):
            train(config, tmp_path / "out")
    assert train(config, tmp_path / "out", resume=True).step == 24
    assert curve(tmp_path / "out") == curve(uninterrupted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 64}, "resolution is 64, but .* has 32"),
        ({"flow_reference_size": (512, 384)}, r"flow_reference_size must be \[32, 32\]"),
        ({"decoder": HeadConfig("features", 8, layers=(0, 5))}, "reads block 5"),
        ({"decoder": HeadConfig("features", 8, layers=(0, 1), lookup_radius=1)}, "lookup_radius needs a correlation"),
    ],
)
def test_what_does_not_fit_the_checkpoint(checkpoint: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DecoderStage(decoder(checkpoint, **changes), CPU)


def test_tasks_are_those_of_the_checkpoint(checkpoint: Path) -> None:
    config = decoder(checkpoint)
    depth = replace(config.tasks["depth"], kind="log", parameters={"log_range": 3.0})
    with pytest.raises(InputError, match=r"tasks\.depth is not what .* was trained for"):
        DecoderStage(replace(config, tasks={**config.tasks, "depth": depth}), CPU)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "dpt", "channels": 8}, "use latent or features"),
        ({"kind": "features", "channels": 8}, "layers is"),
        ({"kind": "features", "channels": 8, "layers": (1, 0)}, "ascending"),
        ({"kind": "features", "channels": 12, "layers": (0,)}, "multiples of 8"),
        ({"kind": "latent", "channels": 8, "layers": (0,)}, "reads latents alone"),
        ({"kind": "features", "channels": 8, "layers": (0,), "correlation_radius": 1}, "set thin_stem"),
    ],
)
def test_sizes_that_mean_nothing(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        HeadConfig(**arguments)


def test_the_files_that_come_with_it_are_of_this_stage() -> None:
    for name in ("small_features", "small_thin", "latent_decoder"):
        assert isinstance(load_config(CONFIGS / f"{name}.yaml"), DecoderConfig)
