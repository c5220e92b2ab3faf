"""Replays with a budget: less is computed, and the output says so."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from replay_bags import Outcome, asked, camera, given

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.replay import ReplaySettings


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample takes 10 ms for each step, by the pipeline's own account."""

    def batch(self: Any, requests: Any, memory: Any = None) -> list[PerceptionOutput]:
        count = sum(r.ensemble_size * len(r.tasks) for r in requests)
        stage_ms = {"encode": 0.001, "denoise": 10.0 * count * requests[0].num_inference_steps, "decode": 0.001}
        return [replace(self(*given(r), **asked(r)), stage_ms=stage_ms) for r in requests]

    monkeypatch.setattr("replay_bags.BrightnessPipeline.batch", batch)


@pytest.mark.usefixtures("timed")
@pytest.mark.parametrize("batch_size", [1, 3])
def test_less_is_computed_and_the_status_says_so(tmp_path: Path, batch_size: int) -> None:
    outcome = Outcome(tmp_path, camera(6), num_inference_steps=4, budget_ms=45.0, batch_size=batch_size)
    statuses = [read.message for read in outcome.read("status")]
    assert len(outcome.stamps("flow")) == 5
    for status in statuses[:3]:
        assert list(status.num_inference_steps) == [2] * len(status.tasks)
        assert status.budget_ms == 45
        assert status.degraded_reason == "num_inference_steps 2 of 4, for a budget of 45 ms"
    assert any("num_inference_steps 2 of 4, for a budget of 45 ms" in w for w in outcome.summary.warnings)


@pytest.mark.usefixtures("timed")
def test_tasks_that_are_given_up_are_not_written(tmp_path: Path) -> None:
    outcome = Outcome(tmp_path, camera(3), num_inference_steps=1, budget_ms=15.0)
    assert len(outcome.stamps("depth/relative")) == 3
    assert not outcome.stamps("flow")
    assert [list(read.message.tasks) for read in outcome.read("status")] == [["depth"]] * 3


@pytest.mark.usefixtures("timed")
def test_without_a_budget_nothing_is_given_up(tmp_path: Path) -> None:
    outcome = Outcome(tmp_path, camera(3), num_inference_steps=4)
    status = outcome.read("status")[0].message
    assert math.isnan(status.budget_ms)
    assert (status.degraded_reason, list(status.num_inference_steps)) == ("", [4, 4])
    assert not any("budget" in warning for warning in outcome.summary.warnings)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_an_unusable_budget_is_one_sentence(value: float) -> None:
    with pytest.raises(InputError, match="--budget-ms is"):
        ReplaySettings(budget_ms=value)
