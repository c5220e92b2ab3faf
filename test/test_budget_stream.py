"""Budgets of a real pipeline: how long it takes is told to it, so that no test depends on the machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from diffusion_perception_ros.budget.calibrate import calibrate
from diffusion_perception_ros.budget.stream import BudgetedStream, DeviceMemoryError
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.request import Request
from diffusion_perception_ros.stream import PerceptionStream

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3)).astype(np.uint8)
LABELS = np.zeros((48, 64), np.uint8)
LABELS[5:20, 10:30], LABELS[30:40, 40:50] = 1, 2
TASKS = ("depth", "flow", "amodal")


class SimulatedTimes(PerceptionPipeline):
    """Times that follow from what is computed, and room for so many samples, at once and in all."""

    def __init__(self, answers: bool) -> None:
        tiny = PerceptionPipeline.random(32)
        super().__init__(tiny.transformer, tiny.codec, tiny.scheduler_config, tiny.metadata)
        self.answers = answers
        self.slowness = 1.0
        self.room = 1000
        self.room_in_all = 1000
        self.calls: list[list[Request]] = []
        self.sizes: list[int] = []
        self.transformer.register_forward_pre_hook(self._check_room)

    def _check_room(self, _: Any, arguments: Any) -> None:
        self.sizes.append(len(arguments[0]))
        if self.sizes[-1] > self.room:
            raise torch.cuda.OutOfMemoryError

    def batch(self, requests: Sequence[Request], memory: Any = None, refine: Any = None) -> list[PerceptionOutput]:
        self.calls.append(list(requests))
        samples = sum(
            request.ensemble_size * {"depth": 1, "flow": 2, "amodal": len(request.visible_masks)}[task.name]
            for request in requests
            for task in request.tasks
        )
        if samples > self.room_in_all:
            raise torch.cuda.OutOfMemoryError
        outputs = super().batch(requests, memory, refine) if self.answers else [PerceptionOutput() for _ in requests]
        steps = requests[0].num_inference_steps
        times = {"encode": 1.0, "denoise": 10.0 * samples * steps, "decode": 1.0 * samples}
        return [replace(o, stage_ms={stage: self.slowness * ms for stage, ms in times.items()}) for o in outputs]


Make = Callable[..., tuple[SimulatedTimes, BudgetedStream, Request]]


@pytest.fixture
def make() -> Make:
    def made(
        budget_ms: float | None = None, answers: bool = False, **arguments: Any
    ) -> tuple[SimulatedTimes, BudgetedStream, Request]:
        pipe = SimulatedTimes(answers)
        stream = PerceptionStream(pipe)
        options = {"tasks": TASKS, "num_inference_steps": 4, "ensemble_size": 4, **arguments}
        request = stream.request(FRAMES[0], FRAMES[1], LABELS, frame=0, next_frame=1, **options)
        return pipe, BudgetedStream(stream, budget_ms, TASKS), request

    return made


def computed(budgeted: BudgetedStream) -> tuple[tuple[str, ...], int, int]:
    assert budgeted.plan is not None
    return budgeted.plan.tasks, budgeted.plan.num_inference_steps, budgeted.plan.ensemble_size


def test_without_a_budget_it_is_the_stream_and_nothing_is_calibrated(make: Make) -> None:
    pipe, budgeted, request = make(answers=True)
    (seen,) = budgeted.batch([request])
    assert len(pipe.calls) == 1
    (expected,) = PerceptionPipeline.batch(pipe, [request])
    np.testing.assert_allclose(seen.depth_relative, expected.depth_relative, atol=1e-5)  # type: ignore[arg-type]
    assert budgeted.degraded_reason == ""


@pytest.mark.parametrize(
    ("budget_ms", "expected"),
    [
        (10000.0, (TASKS, 4, 4)),
        (500.0, (TASKS, 4, 2)),
        (230.0, (TASKS, 4, 1)),
        (150.0, (TASKS, 2, 1)),
        (40.0, (("depth", "flow"), 1, 1)),
        (20.0, (("depth",), 1, 1)),
        (1.0, (("depth",), 1, 1)),
    ],
)
def test_members_then_steps_then_tasks_are_given_up(
    make: Make, budget_ms: float, expected: tuple[tuple[str, ...], int, int]
) -> None:
    _, budgeted, request = make(budget_ms, answers=True)
    (output,) = budgeted.batch([request])
    assert computed(budgeted) == expected
    assert (output.flow is not None, output.amodal is not None) == ("flow" in expected[0], "amodal" in expected[0])
    assert sum(output.stage_ms.values()) <= max(budget_ms, 12.0)
    reason = budgeted.degraded_reason
    assert bool(reason) == (expected != (TASKS, 4, 4))
    assert not reason or reason.endswith(f"for a budget of {budget_ms:g} ms")
    assert ("no amodal" in reason) == ("amodal" not in expected[0])


def test_what_is_left_is_what_the_pipeline_says_when_it_is_asked_for_no_more(make: Make) -> None:
    pipe, budgeted, request = make(40.0, answers=True)
    (output,) = budgeted.batch([request])
    expected = pipe(FRAMES[0], FRAMES[1], tasks=("depth", "flow"), num_inference_steps=1)
    np.testing.assert_allclose(output.depth_relative, expected.depth_relative, atol=1e-5)  # type: ignore[arg-type]
    np.testing.assert_allclose(output.flow, expected.flow, atol=1e-3)  # type: ignore[arg-type]


def test_the_order_of_importance_is_not_that_of_the_request(make: Make) -> None:
    _, budgeted, request = make(35.0, answers=True)
    budgeted.importance = ("flow", "depth")
    budgeted.batch([request])
    assert computed(budgeted)[0] == ("flow", "depth")
    budgeted.budget_ms = 1.0
    (output,) = budgeted.batch([request])
    assert output.depth_relative is None
    assert output.flow is not None


def test_several_requests_share_one_plan_and_one_without_tasks_left_gets_nothing(make: Make) -> None:
    pipe, budgeted, request = make(20.0, answers=True)
    depth, rest = (
        replace(request, tasks=tuple(task for task in request.tasks if (task.name == "depth") == is_depth))
        for is_depth in (True, False)
    )
    budgeted.calibrate(request)
    outputs = budgeted.batch([rest, depth])
    assert computed(budgeted)[0] == ("depth",)
    assert outputs[0].flow is None
    assert outputs[0].stage_ms == outputs[1].stage_ms
    assert outputs[1].depth_relative is not None
    assert pipe.calls[-1][0].image is depth.image


def test_an_epsilon_checkpoint_keeps_two_steps_and_a_mirrored_ensemble_can_become_one(make: Make) -> None:
    pipe, budgeted, request = make(1.0, flip_members=True, ensemble_size=2)
    pipe.scheduler_config = {**pipe.scheduler_config, "prediction_type": "epsilon"}
    budgeted.batch([request])
    assert computed(budgeted) == (("depth",), 2, 1)
    assert not pipe.calls[-1][0].flip_members


def test_a_sampler_of_one_step_sheds_tasks_alone(make: Make) -> None:
    _, budgeted, request = make(40.0, sampler="one_step", num_inference_steps=1, ensemble_size=1)
    budgeted.batch([request])
    assert computed(budgeted) == (("depth", "flow"), 1, 1)


def test_it_adapts_to_a_slower_pipeline_and_back(make: Make) -> None:
    pipe, budgeted, request = make(230.0)
    plans = []
    for frame in range(40):
        pipe.slowness = 2.0 if 5 <= frame < 15 else 1.0
        budgeted.batch([request])
        plans.append(computed(budgeted))
    assert plans[:8] == [(TASKS, 4, 1)] * 8
    assert set(plans[8:30]) == {(TASKS, 2, 1)}
    assert plans[-1] == (TASKS, 4, 1)


def test_the_budget_is_for_publishing_too(make: Make) -> None:
    _, budgeted, request = make(230.0)
    for _ in range(4):
        budgeted.batch([request])
        budgeted.spent_elsewhere(50.0)
    assert computed(budgeted) == (TASKS, 3, 1)
    budgeted.batch([request], frames=2)
    assert computed(budgeted) == (TASKS, 4, 1)


def test_out_of_memory_first_halves_batches_and_the_frame_is_not_lost(make: Make) -> None:
    pipe, budgeted, request = make(answers=True, num_inference_steps=1)
    pipe.room = 5
    (output,) = budgeted.batch([request])
    assert output.amodal is not None
    assert computed(budgeted) == (TASKS, 1, 4)
    assert pipe.sizes[-4:] == [5] * 4
    assert budgeted.degraded_reason == "batches of 5, because the device ran out of memory"
    assert pipe.max_batch_size == 16
    pipe.room = 1000
    budgeted.batch([request])
    assert pipe.sizes[-4:] == [5] * 4
    budgeted.forgive()
    budgeted.batch([request])
    assert pipe.sizes[-2:] == [10, 10]
    assert budgeted.degraded_reason == ""


@pytest.mark.parametrize("budget_ms", [None, 10000.0])
def test_then_it_sheds_members_and_tasks_as_for_time(make: Make, budget_ms: float | None) -> None:
    pipe, budgeted, request = make(budget_ms)
    pipe.room_in_all = 11
    budgeted.batch([request])
    assert computed(budgeted) == (TASKS, 4, 2)
    assert "ensemble_size 2 of 4" in budgeted.degraded_reason
    assert "because the device ran out of memory" in budgeted.degraded_reason
    pipe.room_in_all = 3
    budgeted.batch([request])
    assert computed(budgeted) == (("depth", "flow"), 4, 1)
    pipe.room_in_all = 0
    with pytest.raises(DeviceMemoryError, match="one sample at a time"):
        budgeted.batch([request])


def test_calibration_runs_what_fits_its_time_and_extrapolates_the_rest(make: Make) -> None:
    pipe, _, request = make(num_inference_steps=1)
    costs = calibrate(pipe, request, TASKS, milliseconds=200.0)
    sizes = sorted(costs.step)
    assert sizes[0] == 1
    assert sizes[-1] < 20
    assert sum(11.0 * _samples(requests) + 1 for requests in pipe.calls) <= 200.0
    full = calibrate(pipe, request, TASKS, milliseconds=1e6)
    assert max(full.decode["amodal", True]) == 8
    assert {name: sorted(table) for (name, _), table in full.decode.items()} == {
        "depth": [1, 2, 4],
        "flow": [2, 4, 8],
        "amodal": [2, 4, 8],
    }


def _samples(requests: list[Request]) -> int:
    return sum(
        r.ensemble_size * {"depth": 1, "flow": 2, "amodal": len(r.visible_masks)}[t.name]
        for r in requests
        for t in r.tasks
    )


def test_the_embedded_checkpoint_is_calibrated_by_its_own_clock() -> None:
    pipe = PerceptionPipeline.embedded("cpu")
    request = pipe.request(FRAMES[0], FRAMES[1], LABELS == 1, tasks=("depth", "flow"))
    costs = calibrate(pipe, request, ("depth", "flow"), milliseconds=1.0)
    assert set(costs.decode) == {("depth", True), ("flow", True)}
    assert costs.step[1] > 0.1
