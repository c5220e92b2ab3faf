"""Metrics and pictures while training, from predictions that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from training_runs import tiny

from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.predictions import AmodalInstance, PerceptionOutput
from diffusion_perception_ros.training import sheet, validation
from diffusion_perception_ros.training.cache import render_records, unpack_masks
from diffusion_perception_ros.training.initialize import make_codec, make_transformer
from diffusion_perception_ros.training.validation import badness, validate


@pytest.fixture(scope="module")
def records() -> Any:
    return render_records(range(4), 32)


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
        extra={},
    )


def test_the_truth_is_without_fault(records: Any, pipe: PerceptionPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "predict", lambda pipe, record, steps: answer(record, 1.0))
    metrics = validate(pipe, records, 1)
    assert metrics["abs_rel"] == pytest.approx(0, abs=1e-3)
    assert metrics["delta1"] == 1
    assert metrics["epe"] == 0
    assert metrics["iou"] == pytest.approx(1, abs=0.02)


def test_faults_are_measured(records: Any, pipe: PerceptionPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "predict", lambda pipe, record, steps: answer(record, 0.75))
    metrics = validate(pipe, records, 1)
    assert metrics["epe_ratio"] == pytest.approx(0.25, abs=1e-3)
    assert metrics["iou_hidden"] == 0
    assert metrics["iou"] < 1


def test_badness_falls_with_any_error() -> None:
    start = {"abs_rel": 0.3, "epe_ratio": 0.9, "iou": 0.6, "delta1": 0.5}
    for better in ({"abs_rel": 0.15}, {"epe_ratio": 0.45}, {"iou": 0.8}):
        assert badness(start | better) == pytest.approx(badness(start) * 0.5 ** (1 / 3))
    assert badness({"abs_rel": 0.3}) == pytest.approx(0.3)


def test_the_sheet_has_a_row_for_each_scene(records: Any, pipe: PerceptionPipeline) -> None:
    picture = sheet.sample_sheet(pipe, records[:3])
    tile = picture.shape[0] // 3
    assert picture.shape == (3 * tile, 7 * tile, 3)
    image = picture[:tile, :tile]
    assert (image[:: tile // 32, :: tile // 32] == records["image"][0][..., ::-1]).all()
    for column in range(7):
        assert picture[:, column * tile : (column + 1) * tile].std() > 0
