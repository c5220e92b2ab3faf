"""A short measurement of what encoding, steps and decoding cost on this device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from diffusion_perception_ros.budget.costs import CostModel
from diffusion_perception_ros.budget.plan import Plan, Wanted
from diffusion_perception_ros.budget.work import as_planned, wanted_by, work_of
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.request import Request

_ROUNDS = 2


def calibrate(
    pipe: PerceptionPipeline, request: Request, importance: Sequence[str] = (), milliseconds: float = 700.0
) -> CostModel:
    """Measure the batch sizes that will occur: each task alone and all of them, with one member, two, four and so on.

    The pipeline itself is measured, by the ``stage_ms`` of its answers. Each task alone is run twice, the first time to
    warm up. What else would take longer than is left of the time, or more memory than there is, is not measured but
    extrapolated.

    Args:
        pipe: The pipeline.
        request: What will be wanted: all tasks, most members.
        importance: Tasks, the most important one first.
        milliseconds: How long this may take.

    Raises:
        torch.cuda.OutOfMemoryError: Not even the most important task fits.
    """
    costs = CostModel()
    work = work_of(pipe.metadata, [request], importance, pipe.max_batch_size)
    wanted = wanted_by([request], work, pipe.scheduler_config)
    spent = 0.0
    for number, chosen in enumerate(_plans(wanted, pipe)):
        arguments = work, chosen.tasks, chosen.num_inference_steps, chosen.ensemble_size
        is_first = number < len(work.tasks)
        if not is_first and spent + costs.predict(*arguments) > milliseconds:
            continue
        left = as_planned(request, chosen)
        try:
            for _ in range(2 if is_first else 1):
                stage_ms = pipe.batch([left])[0].stage_ms
                spent += sum(stage_ms.values())
        except torch.cuda.OutOfMemoryError:
            if number == 0:
                raise
            break
        if stage_ms:
            costs.calibrate(*arguments, stage_ms)
    return costs


def _plans(wanted: Wanted, pipe: PerceptionPipeline) -> Iterator[Plan]:
    """What is measured, the most important first; in the second round disturbances of the first are found out."""
    tasks, fewest = tuple(wanted.work.tasks), wanted.steps[0]
    alone = [(name,) for name in tasks]
    sizes = [2**i for i in range(1, wanted.ensemble_size.bit_length()) if 2**i < wanted.ensemble_size]
    members = [*sizes, wanted.ensemble_size] if wanted.ensemble_size > 1 else []
    others = [steps for steps in wanted.steps[1:2] if pipe.decoding(steps) != pipe.decoding(fewest)]
    for _ in range(_ROUNDS):
        for some in alone:
            yield Plan(some, fewest, 1, 0.0)
        for steps in others:
            for some in alone:
                yield Plan(some, steps, 1, 0.0)
        for size in (1, *members):
            for some in dict.fromkeys((*(alone if size > 1 else ()), tasks)):
                yield Plan(some, fewest, size, 0.0)
