"""Metrics and pictures while training, from predictions that are known."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from training_runs import seeing_normals, tiny

from diffusion_perception_ros.evaluation.datasets import Scenes
from diffusion_perception_ros.evaluation.sheets.tiles import normal_tiles
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.predictions import AmodalInstance, PerceptionOutput
from diffusion_perception_ros.training import validation
from diffusion_perception_ros.training.cache import VALIDATION_SEED, render_records, unpack_masks
from diffusion_perception_ros.training.initialize import make_codec, make_transformer
from diffusion_perception_ros.training.sheet import held_out_sheet
from diffusion_perception_ros.training.validation import badness, validate


@pytest.fixture(scope="module")
def records() -> Any:
    return render_records(range(4), 32, normals=True)


@pytest.fixture(scope="module")
def pipe() -> PerceptionPipeline:
    config = tiny()
    codec = make_codec(config)
    network = make_transformer(config, codec).eval().requires_grad_(False)
    return PerceptionPipeline(network, codec, config.diffusion.scheduler_config(), config.metadata())


def answer(record: Any, scale: float) -> PerceptionOutput:
    """The truth, with flow too short and the hidden part missing where ``scale`` is below one."""
    depth = record["depth"].astype(np.float32)
    depth[~np.isfinite(depth)] = 100
    masks = unpack_masks(record["masks"])
    mask = masks["amodal"] if scale == 1 else masks["visible"]
    return PerceptionOutput(
        depth_relative=depth / 100,
        depth_uncertainty=None,
        flow=record["flow"].astype(np.float32) * scale,
        flow_standard_deviation=None,
        max_displacement=(8.0, 8.0),
        amodal=[AmodalInstance(1, masks["visible"], mask | masks["visible"], None, float("nan"))],
        extra={"normals": record["normals"].astype(np.float32) * (1 if scale == 1 else (-1, 1, 1))},
    )


def test_the_truth_is_without_fault(records: Any, pipe: PerceptionPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "predict", lambda pipe, record, steps: answer(record, 1.0))
    metrics = validate(pipe, records, 1)
    assert metrics["abs_rel"] == pytest.approx(0, abs=1e-3)
    assert metrics["delta1"] == 1
    assert metrics["epe"] == 0
    assert metrics["iou"] == pytest.approx(1, abs=0.02)
    assert metrics["angle"] == pytest.approx(0, abs=0.1)


def test_faults_are_measured(records: Any, pipe: PerceptionPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "predict", lambda pipe, record, steps: answer(record, 0.75))
    metrics = validate(pipe, records, 1)
    assert metrics["epe_ratio"] == pytest.approx(0.25, abs=1e-3)
    assert metrics["iou_hidden"] == 0
    assert metrics["iou"] < 1
    assert metrics["angle"] > 10  # what faces right faces left


def test_badness_falls_with_any_error() -> None:
    start = {"abs_rel": 0.3, "epe_ratio": 0.9, "iou": 0.6, "delta1": 0.5}
    for better in ({"abs_rel": 0.15}, {"epe_ratio": 0.45}, {"iou": 0.8}):
        assert badness(start | better) == pytest.approx(badness(start) * 0.5 ** (1 / 3))
    assert badness({"abs_rel": 0.3}) == pytest.approx(0.3)
    assert badness({"angle": 30.0}) == pytest.approx(1 / 3)


def find(sheet: Any, tile: Any) -> tuple[int, int]:
    """(x, y) of a tile, as the sheet draws it."""
    drawn = cv2.resize(tile, (216, 216), interpolation=cv2.INTER_CUBIC)
    difference, _, place, _ = cv2.minMaxLoc(cv2.matchTemplate(sheet, drawn, cv2.TM_SQDIFF))
    assert difference < 1e3 * drawn.size / 1e4
    return int(place[0]), int(place[1])


def test_the_sheet_has_a_row_for_each_scene(pipe: PerceptionPipeline) -> None:
    samples = list(Scenes(3, VALIDATION_SEED, 32, 32))
    sheet = held_out_sheet(pipe, samples, 7)
    shorter = held_out_sheet(pipe, samples[:1], 7)
    assert sheet.shape[1] == shorter.shape[1]
    row = (sheet.shape[0] - shorter.shape[0]) // 2
    assert row > 216
    sheet = np.ascontiguousarray(sheet[:, :600])
    x, y = find(sheet, samples[0].image[..., ::-1].copy())
    for i, sample in enumerate(samples):
        assert find(sheet, sample.image[..., ::-1].copy()) == (x, y + i * row)
        assert sample.next_image is not None
        assert find(sheet, sample.next_image[..., ::-1].copy()) == (x + 222, y + i * row)


def test_the_sheet_shows_normals_of_a_checkpoint_that_sees_them(pipe: PerceptionPipeline) -> None:
    config = seeing_normals(tiny())
    codec = make_codec(config)
    network = make_transformer(config, codec).eval().requires_grad_(False)
    seeing = PerceptionPipeline(network, codec, config.diffusion.scheduler_config(), config.metadata())
    (sample,) = samples = list(Scenes(1, VALIDATION_SEED, 32, 32))
    sheet = held_out_sheet(seeing, samples, 7)
    without = held_out_sheet(pipe, samples, 7)
    assert sheet.shape[1] - without.shape[1] > 3 * 216
    assert sample.normals is not None
    added = np.ascontiguousarray(sheet[:, without.shape[1] - 100 :])
    x, _ = find(added, normal_tiles(sample.normals.normals, sample.normals, 45.0)[1])
    assert x > 216
