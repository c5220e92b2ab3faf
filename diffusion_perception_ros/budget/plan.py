"""What fits a budget: the most important tasks first, then steps, then ensemble members."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from diffusion_perception_ros.budget.costs import CostModel, Work


@dataclass(frozen=True)
class Limits:
    """What may be spent on one batch of requests.

    Attributes:
        milliseconds: Time.
        samples: Of all tasks and members together, which bounds memory.
    """

    milliseconds: float = math.inf
    samples: float = math.inf


@dataclass(frozen=True)
class Wanted:
    """What would be computed if time did not matter.

    Attributes:
        work: Tasks in order of importance; the first one is always computed.
        steps: The numbers of steps that the sampler can take, ascending, up to the wanted one.
        ensemble_size: Members.
    """

    work: Work
    steps: tuple[int, ...]
    ensemble_size: int


@dataclass(frozen=True)
class Plan:
    """What is computed.

    Attributes:
        tasks: In order of importance.
        num_inference_steps: Of all of them.
        ensemble_size: Members.
        predicted_ms: How long it will take.
    """

    tasks: tuple[str, ...]
    num_inference_steps: int
    ensemble_size: int
    predicted_ms: float


def plan(limits: Limits, wanted: Wanted, costs: CostModel) -> Plan:
    """The best that fits, or, where nothing does, the first task with as few steps as possible.

    A task is left out where it does not fit beside those before it, with the fewest steps and one member. Time that is
    left buys steps for all of them, and then members. So less time first takes members, then steps, then tasks, and
    of the order (tasks, steps, members) more time never gives less.

    Args:
        limits: What may be spent.
        wanted: What there is to choose from, at least one task.
        costs: How long things take.
    """
    work, fewest = wanted.work, wanted.steps[0]

    def fits(tasks: Sequence[str], steps: int, members: int) -> bool:
        return (
            members * work.samples(tasks) <= limits.samples
            and costs.predict(work, tasks, steps, members) <= limits.milliseconds
        )

    first, *others = work.tasks
    tasks: tuple[str, ...] = (first,)
    for name in others:
        if fits((*tasks, name), fewest, 1):
            tasks = (*tasks, name)
    steps = next((steps for steps in reversed(wanted.steps) if fits(tasks, steps, 1)), fewest)
    members = next((members for members in range(wanted.ensemble_size, 1, -1) if fits(tasks, steps, members)), 1)
    return Plan(tasks, steps, members, costs.predict(work, tasks, steps, members))


def reduced(wanted: Wanted, chosen: Plan) -> str:
    """What is less than wanted, for people; empty if nothing is."""
    steps, without = wanted.steps[-1], [name for name in wanted.work.tasks if name not in chosen.tasks]
    parts = []
    if chosen.ensemble_size < wanted.ensemble_size:
        parts.append(f"ensemble_size {chosen.ensemble_size} of {wanted.ensemble_size}")
    if chosen.num_inference_steps < steps:
        parts.append(f"num_inference_steps {chosen.num_inference_steps} of {steps}")
    if without:
        parts.append(f"no {', no '.join(without)}")
    return ", ".join(parts)
