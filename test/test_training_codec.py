"""Stage 1: what an image codec is trained on, its losses and metrics, and whole runs up to a generalist on top."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from training_runs import CONFIGS, render_cache, tiny

from diffusion_perception_ros.model.folder import load_codec
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.training import CodecConfig, load_config, train
from diffusion_perception_ros.training.batches import Batches, Questions, ask
from diffusion_perception_ros.training.cache import render_records
from diffusion_perception_ros.training.codec_config import AutoencoderConfig
from diffusion_perception_ros.training.codec_losses import CodecLosses, gradient_loss
from diffusion_perception_ros.training.codec_metrics import mean_absolute_error, psnr
from diffusion_perception_ros.training.codec_network import make_network
from diffusion_perception_ros.training.codec_pictures import codec_pictures
from diffusion_perception_ros.training.codec_stage import CodecStage
from diffusion_perception_ros.training.log import read_rows
from diffusion_perception_ros.training.sources_scenes import scene_frames

CPU = torch.device("cpu")
KINDS = {"image", "visible_mask", "ones", "depth", "flow", "amodal"}


def tiny_codec(**changes: Any) -> CodecConfig:
    config = load_config(CONFIGS / "tiny_codec.yaml")
    assert isinstance(config, CodecConfig)
    return replace(config, **changes)


KL = tiny_codec()
TINY = tiny_codec(codec=AutoencoderConfig("AutoencoderTiny", 4, (8, 8)), loss=replace(KL.loss, kl=0.0))


@pytest.fixture(scope="module")
def batch() -> list[Questions]:
    """Three questions of each task."""
    frames = scene_frames(render_records(range(3), 32), CPU)
    return [ask(KL, name, frames) for name in KL.tasks]


def test_a_codec_carries_all_that_the_tasks_put_through_it(batch: list[Questions]) -> None:
    pictures = codec_pictures(KL, batch)
    counts = {kind: len(x) for kind, x in pictures.items()}
    # Three tasks see the same frames, and flow is asked with the next ones; flow answers with two pictures.
    assert counts == {"image": 3 * 3 + 3, "visible_mask": 3, "ones": 1, "depth": 3, "flow": 6, "amodal": 3}
    depth, amodal, flow = batch
    assert torch.equal(pictures["image"][-6:], torch.cat([flow.image, flow.prompt]))
    assert torch.equal(pictures["visible_mask"], amodal.prompt)
    assert torch.equal(pictures["depth"], depth.target.images[:, 0])
    assert torch.equal(pictures["flow"][1], flow.target.images[0, 1])
    assert all(x.shape[1:] == (3, 32, 32) and x.abs().max() <= 1 for x in pictures.values())


@pytest.mark.parametrize("config", [KL, TINY], ids=lambda config: config.codec.kind)
def test_without_noise_the_network_is_the_codec(config: CodecConfig) -> None:
    stage = CodecStage(config, CPU)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    reconstructions, divergence = stage.network(images)
    codec = stage.codec(stage.network)
    assert torch.allclose(reconstructions, codec.decode(codec.encode(images)), atol=1e-6)
    assert divergence.tolist() == [0, 0]
    assert codec.encode(images).shape == (2, 4, 16, 16)


def test_latents_are_drawn_and_their_divergence_is_that_of_diffusers() -> None:
    network = make_network(KL)
    images, noise = torch.rand(2, 3, 32, 32) * 2 - 1, torch.randn(2, 4, 16, 16)
    reconstructions, divergence = network(images, noise)
    distribution = network.vae.encode(images).latent_dist
    assert torch.allclose(divergence, distribution.kl() / (4 * 16 * 16), rtol=1e-4)
    drawn = network.vae.decode(distribution.mean + distribution.std * noise).sample
    assert torch.allclose(reconstructions, drawn, atol=1e-5)


def test_the_structural_loss_sees_edges_and_no_tint() -> None:
    flat, edge, texture = torch.zeros(3, 3, 16, 16)
    flat, edge, texture = flat + 0.3, edge.clone(), texture.clone()
    edge[..., 8:] = 0.3
    texture[..., ::2] = 0.3
    losses = gradient_loss(torch.stack([flat, edge, texture]))
    assert losses[0] == 0
    # One of 15, 7, 3 and 1 steps across.
    assert losses[1].item() == pytest.approx(0.3 * (1 / 15 + 1 / 7 + 1 / 3 + 1), rel=1e-5)
    assert losses[2].item() == pytest.approx(0.3, rel=1e-5)  # at the finest scale alone


def test_losses_add_up(batch: list[Questions]) -> None:
    config = tiny_codec(loss=replace(KL.loss, gradient=0.5, kl=0.1))
    network = make_network(config)
    total, parts = CodecLosses(config)(network, batch, np.random.default_rng(0))
    again, _ = CodecLosses(config)(network, batch, np.random.default_rng(0))
    other, _ = CodecLosses(config)(network, batch, np.random.default_rng(1))
    assert total == again != other
    assert parts.keys() == {f"l1_{kind}" for kind in KINDS} | {"gradient", "kl"}
    counts = {kind: len(x) for kind, x in codec_pictures(config, batch).items()}
    absolute = sum(parts[f"l1_{kind}"] * count for kind, count in counts.items()) / sum(counts.values())
    assert total.item() == pytest.approx((absolute + 0.5 * parts["gradient"] + 0.1 * parts["kl"]).item(), rel=1e-5)


def test_metrics() -> None:
    images = torch.zeros(3, 3, 8, 8)
    reconstructions = torch.stack([images[0] + 0.2, images[1] + 5, images[2]])
    # The range is 2; what is beyond it is clipped.
    assert psnr(reconstructions, images).tolist() == pytest.approx([20.0, 6.0206, 80.0], rel=1e-4)
    assert mean_absolute_error(reconstructions, images).tolist() == pytest.approx([0.2, 1.0, 0.0])


@pytest.mark.parametrize("config", [KL, TINY], ids=lambda config: config.codec.kind)
def test_what_is_saved_has_latents_of_unit_variance(config: CodecConfig, tmp_path: Path) -> None:
    stage = CodecStage(config, CPU)
    with torch.no_grad():
        for parameter in stage.network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
        stage.save(stage.network.eval(), tmp_path)
    codec = load_codec(tmp_path, torch.float32)
    frames = scene_frames(stage.held_out, CPU)
    pictures = codec_pictures(config, [ask(config, name, frames) for name in config.tasks])
    pictures["image"] = frames.image * 2 - 1
    latents = codec.encode(torch.cat(list(pictures.values())))
    assert latents.std().item() == pytest.approx(1, abs=0.02)
    before = stage.codec(stage.network)
    image = pictures["image"]
    assert torch.allclose(codec.decode(codec.encode(image)), before.decode(before.encode(image)), atol=0.03)
    scale = json.loads((tmp_path / "vae" / "config.json").read_text())["scaling_factor"]
    assert scale == pytest.approx(1 / before.encode(torch.cat(list(pictures.values()))).std().item(), rel=1e-3)
    assert (tmp_path / "vae" / "diffusion_pytorch_model.safetensors").stat().st_mode & 0o044


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_cache(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def codec_run(tmp_path_factory: pytest.TempPathFactory, pairs: Path) -> tuple[CodecConfig, Path]:
    torch.set_num_threads(1)
    config = tiny_codec(
        steps=30,
        data=replace(KL.data, folder=pairs),
        report=replace(KL.report, log=1, checkpoint=10, validation=29, sheet=30),
    )
    out = tmp_path_factory.mktemp("codec") / "out"
    assert train(config, out).step == 30
    return config, out


def curve(out: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k != "minutes"} for row in read_rows(out / "losses.csv")]


def test_it_learns_and_says_so(codec_run: tuple[CodecConfig, Path]) -> None:
    out = codec_run[1]
    losses = [float(row["loss"]) for row in curve(out)]
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])
    before, after = read_rows(out / "validation.csv")
    assert {f"{name}_{kind}" for name in ("l1", "psnr") for kind in KINDS} < after.keys()
    assert float(after["badness"]) <= 1.01 * float(before["badness"])
    assert float(after["psnr_depth"]) > 10
    sheet = cv2.imread(str(out / "sheets" / "0000030.png"))
    assert sheet is not None
    # Two rows for each of four scenes, a column for each kind but the constant one, and two for flow.
    assert sheet.shape[0] > 8 * 216
    assert 6 * 216 < sheet.shape[1] < 7 * 216


def test_after_a_crash_it_resumes_to_the_same_curve(
    codec_run: tuple[CodecConfig, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, uninterrupted = codec_run
    whole = Batches.stream

    def crash(self: Batches, step: int) -> Iterator[tuple[int, int, list[Questions]]]:
        for number, part, questions in whole(self, step):
            if number == 17:
                raise MemoryError
            yield number, part, questions

    with monkeypatch.context() as context:
        context.setattr(Batches, "stream", crash)
        with pytest.raises(MemoryError):
            train(config, tmp_path / "out")
    assert len(curve(tmp_path / "out")) == 17
    assert train(config, tmp_path / "out", resume=True).step == 30
    assert curve(tmp_path / "out") == curve(uninterrupted)


def test_the_generalist_trains_behind_it(codec_run: tuple[CodecConfig, Path], pairs: Path, tmp_path: Path) -> None:
    folder = codec_run[1] / "best"
    config = tiny(steps=3, data=replace(tiny().data, folder=pairs))
    config = replace(config, model=replace(config.model, codec=folder), report=replace(config.report, log=1))
    train(config, tmp_path / "out")
    assert [float(row["loss"]) > 0 for row in curve(tmp_path / "out")] == [True] * 3
    pipe = PerceptionPipeline.from_pretrained(tmp_path / "out" / "last")
    assert pipe.codec.name == "AutoencoderKL"
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    assert torch.equal(pipe.codec.encode(image), load_codec(folder, torch.float32).encode(image))
