"""What fits a budget, by what was measured: without a clock and without a network."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_perception_ros.budget.costs import STAGES, CostModel, TaskWork, Work
from diffusion_perception_ros.budget.estimate import UpperEstimate
from diffusion_perception_ros.budget.plan import Limits, Plan, Wanted, plan, reduced
from diffusion_perception_ros.sampling.samplers import find_sampler, possible_steps

NAMES = ("depth", "flow", "amodal", "normals")
milliseconds = st.floats(0.01, 1000)
tables = st.dictionaries(st.integers(1, 32), milliseconds, min_size=1, max_size=5)


@st.composite
def wishes(draw: st.DrawFn) -> Wanted:
    count = draw(st.integers(1, len(NAMES)))
    tasks = {name: TaskWork(draw(st.integers(1, 8)), draw(st.integers(0, 8))) for name in NAMES[:count]}
    work = Work(draw(st.integers(1, 4)), tasks, draw(st.integers(1, 16)))
    steps = draw(st.lists(st.integers(1, 50), min_size=1, max_size=6, unique=True))
    return Wanted(work, tuple(sorted(steps)), draw(st.integers(1, 10)))


@st.composite
def models(draw: st.DrawFn) -> CostModel:
    costs = CostModel(
        draw(tables), draw(tables), {(name, one): draw(tables) for name in NAMES for one in (True, False)}
    )
    for estimate in costs.corrections.values():
        estimate.value = draw(st.floats(0.2, 5))
    return costs


def predicted(costs: CostModel, wanted: Wanted, chosen: Plan) -> float:
    return costs.predict(wanted.work, chosen.tasks, chosen.num_inference_steps, chosen.ensemble_size)


def rank(wanted: Wanted, chosen: Plan) -> tuple[Any, ...]:
    """In the order of importance."""
    is_there = tuple(name in chosen.tasks for name in wanted.work.tasks)
    return is_there, chosen.num_inference_steps, chosen.ensemble_size


def proportional(per_sample: float = 10.0, base: float = 5.0) -> CostModel:
    table = {n: base + per_sample * n for n in (1, 2, 4, 8, 16)}
    return CostModel({1: 1.0}, table, {(name, True): {1: 1.0} for name in NAMES})


def wish(steps: int = 4, members: int = 4, **tasks: int) -> Wanted:
    work = {name: TaskWork(samples, 1) for name, samples in (tasks or {"depth": 1, "flow": 2, "amodal": 3}).items()}
    return Wanted(Work(1, work, 16), tuple(range(1, steps + 1)), members)


@settings(max_examples=50)
@given(models(), wishes(), milliseconds, milliseconds)
def test_more_time_never_gives_less(costs: CostModel, wanted: Wanted, a: float, b: float) -> None:
    less, more = (rank(wanted, plan(Limits(ms), wanted, costs)) for ms in sorted((a, 100 * b)))
    assert less <= more


@settings(max_examples=50)
@given(models(), wishes(), milliseconds, st.integers(1, 100))
def test_what_is_chosen_fits_or_is_the_least(costs: CostModel, wanted: Wanted, ms: float, samples: int) -> None:
    chosen = plan(Limits(ms, samples), wanted, costs)
    fits = chosen.predicted_ms <= ms and chosen.ensemble_size * wanted.work.samples(chosen.tasks) <= samples
    least = Plan((next(iter(wanted.work.tasks)),), wanted.steps[0], 1, chosen.predicted_ms)
    assert fits or chosen == least
    assert chosen.predicted_ms == predicted(costs, wanted, chosen)
    assert chosen.tasks[0] == next(iter(wanted.work.tasks))
    assert chosen.num_inference_steps in wanted.steps
    assert 1 <= chosen.ensemble_size <= wanted.ensemble_size


@settings(max_examples=50)
@given(models(), wishes(), milliseconds)
def test_nothing_that_would_be_better_fits(costs: CostModel, wanted: Wanted, ms: float) -> None:
    chosen = plan(Limits(ms), wanted, costs)
    more_steps = [steps for steps in wanted.steps if steps > chosen.num_inference_steps]
    for steps in more_steps:
        assert costs.predict(wanted.work, chosen.tasks, steps, 1) > ms
    for members in range(chosen.ensemble_size + 1, wanted.ensemble_size + 1):
        assert predicted(costs, wanted, replace(chosen, ensemble_size=members)) > ms


@settings(max_examples=50)
@given(models(), wishes())
def test_without_limits_everything_is_computed(costs: CostModel, wanted: Wanted) -> None:
    chosen = plan(Limits(), wanted, costs)
    assert chosen.tasks == tuple(wanted.work.tasks)
    assert (chosen.num_inference_steps, chosen.ensemble_size) == (wanted.steps[-1], wanted.ensemble_size)
    assert reduced(wanted, chosen) == ""


def test_members_go_before_steps_and_steps_before_tasks() -> None:
    costs, wanted = proportional(), wish()
    seen = [plan(Limits(ms), wanted, costs) for ms in (2000, 300, 200, 60, 50, 1)]
    assert [(p.tasks, p.num_inference_steps, p.ensemble_size) for p in seen[:2]] == [
        (("depth", "flow", "amodal"), 4, 4),
        (("depth", "flow", "amodal"), 4, 1),
    ]
    assert (seen[2].tasks, seen[2].num_inference_steps) == (("depth", "flow", "amodal"), 2)
    assert seen[3].tasks == ("depth", "flow")
    assert seen[5].tasks == ("depth",)
    assert reduced(wanted, seen[5]) == "ensemble_size 1 of 4, num_inference_steps 1 of 4, no flow, no amodal"


def test_a_task_that_is_too_expensive_leaves_room_for_a_cheaper_one_after_it() -> None:
    chosen = plan(Limits(60), wish(steps=1, members=1, depth=1, amodal=16, flow=2), proportional())
    assert chosen.tasks == ("depth", "flow")


def test_smaller_batches_cost_more_and_memory_bounds_members() -> None:
    costs, wanted = proportional(base=20.0), wish(steps=1, members=4, depth=4)
    small = replace(wanted, work=replace(wanted.work, max_batch_size=2))
    assert predicted(costs, small, plan(Limits(), small, costs)) > predicted(
        costs, wanted, plan(Limits(), wanted, costs)
    )
    assert plan(Limits(samples=8), wanted, costs).ensemble_size == 2
    assert plan(Limits(samples=1), wanted, costs).tasks == ("depth",)


@pytest.mark.parametrize(("items", "expected"), [(1, 10), (2, 10), (3, 15), (4, 20), (6, 20), (16, 40)])
def test_between_measurements_it_is_interpolated_and_never_falls(items: int, expected: float) -> None:
    costs = CostModel({}, {2: 10.0, 4: 20.0, 8: 15.0}, {})
    work = Work(1, {"depth": TaskWork(items, 0)}, 64)
    assert costs.predict(work, ("depth",), 1, 1) == pytest.approx(expected, rel=1e-4)


def run(costs: CostModel, wanted: Wanted, ms: float, factors: list[float]) -> list[Plan]:
    """Frames that take as long as the tables say, times a factor."""
    truth = CostModel(costs.encode, costs.step, costs.decode)
    plans = []
    for factor in factors:
        chosen = plan(Limits(ms), wanted, costs)
        stages = _stages(truth, wanted, chosen)
        costs.observe(
            wanted.work,
            chosen.tasks,
            chosen.num_inference_steps,
            chosen.ensemble_size,
            {stage: factor * stages[stage] for stage in STAGES},
        )
        plans.append(chosen)
    return plans


def _stages(truth: CostModel, wanted: Wanted, chosen: Plan) -> dict[str, float]:
    return truth._uncorrected(wanted.work, chosen.tasks, chosen.num_inference_steps, chosen.ensemble_size)


@settings(max_examples=25)
@given(
    st.lists(st.floats(0.9, 1.1), min_size=30, max_size=60), st.floats(0.3, 3), st.floats(10, 1000), st.integers(1, 8)
)
def test_jitter_of_ten_percent_does_not_make_it_swing(
    jitter: list[float], drift: float, ms: float, members: int
) -> None:
    wanted = wish(steps=8, members=members)
    plans = run(proportional(), wanted, ms, [drift * factor for factor in jitter])
    ranks = [rank(wanted, chosen) for chosen in plans]
    # Once it may become more: when the device turns out to be faster than it was when it was calibrated.
    assert sum(later > earlier for earlier, later in pairwise(ranks)) <= 1
    assert ranks[3:] == sorted(ranks[3:], reverse=True)


def test_it_adapts_to_a_slower_device_at_once_and_to_a_faster_one_with_patience() -> None:
    wanted, costs = wish(steps=4, members=1), proportional()
    full = plan(Limits(300), wanted, costs)
    slow = run(costs, wanted, 300, [2.0] * 10)
    assert slow[2] == full
    assert slow[3].num_inference_steps < full.num_inference_steps
    assert 2 * predicted(proportional(), wanted, slow[-1]) <= 300
    fast = run(costs, wanted, 300, [1.0] * 30)
    assert fast[5].num_inference_steps == slow[-1].num_inference_steps
    assert fast[-1].num_inference_steps == full.num_inference_steps


def test_two_outliers_change_nothing() -> None:
    estimate = UpperEstimate(1.0)
    for value in (1.0, 9.0, 1.0, 0.95, 1.0, 8.0, 1.0, 0.9):
        estimate.add(value)
        assert estimate.value == 1.0
    estimate.add(7.0)
    assert estimate.value == 7.0


def test_a_task_that_was_not_calibrated_counts_as_the_slowest() -> None:
    costs = CostModel({1: 1.0}, {1: 1.0}, {("depth", True): {1: 5.0}, ("flow", False): {1: 7.0}})
    work = Work(1, {"normals": TaskWork(1, 0)}, 16)
    assert costs.predict(work, ("normals",), 1, 1) == pytest.approx(9.0)


@pytest.mark.parametrize(
    ("sampler", "config", "expected"),
    [
        ("ddim_trailing", {"prediction_type": "v_prediction"}, (1, 2, 3)),
        ("ddim_trailing", {"prediction_type": "epsilon"}, (2, 3)),
        ("one_step", {"prediction_type": "v_prediction"}, (1,)),
    ],
)
def test_the_numbers_of_steps_that_are_possible(
    sampler: str, config: dict[str, Any], expected: tuple[int, ...]
) -> None:
    config = {"num_train_timesteps": 1000, **config}
    assert possible_steps(find_sampler(sampler), config, 3) == expected
