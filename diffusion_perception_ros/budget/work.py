"""What requests ask of the networks, counted without computing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from diffusion_perception_ros.budget.costs import TaskWork, Work
from diffusion_perception_ros.budget.plan import Plan, Wanted
from diffusion_perception_ros.model.metadata import CheckpointMetadata
from diffusion_perception_ros.request import Request
from diffusion_perception_ros.sampling.samplers import possible_steps


def work_of(
    metadata: CheckpointMetadata, requests: Sequence[Request], importance: Sequence[str], max_batch_size: int
) -> Work:
    """The samples and pictures of a batch of requests.

    Args:
        metadata: What the checkpoint declares.
        requests: At least one.
        importance: Tasks, the most important one first; those that it does not name come after those.
        max_batch_size: Most samples that go through the transformer at once.
    """
    tasks: dict[str, TaskWork] = {}
    for request in requests:
        for task in request.tasks:
            encoding = metadata.tasks[task.name]
            prompts = task.prompts(encoding, tuple(request.visible_masks))
            before = tasks.get(task.name, TaskWork(0, 0))
            tasks[task.name] = TaskWork(
                before.samples + len(prompts) * len(encoding.labels),
                before.pictures + sum(prompt.source != "ones" for prompt in prompts),
            )
    order = sorted(tasks, key=lambda name: importance.index(name) if name in importance else len(importance))
    return Work(len(requests), {name: tasks[name] for name in order}, max_batch_size)


def wanted_by(requests: Sequence[Request], work: Work, scheduler_config: Mapping[str, Any]) -> Wanted:
    """What there is to choose from; requests of one batch are reduced together, to the least that any of them wants."""
    steps = min(request.num_inference_steps for request in requests)
    members = min(request.ensemble_size for request in requests)
    return Wanted(work, possible_steps(requests[0].sampler, scheduler_config, steps), members)


def as_planned(request: Request, chosen: Plan) -> Request:
    """What is left of a request, as if no more had been asked; it may have no tasks."""
    tasks = tuple(task for task in request.tasks if task.name in chosen.tasks)
    left = replace(
        request,
        tasks=tasks,
        num_inference_steps=chosen.num_inference_steps,
        ensemble_size=chosen.ensemble_size,
        flip_members=request.flip_members and chosen.ensemble_size > 1,
    )
    needed = {argument for task in tasks for argument in task.requires}
    dropped = {argument for task in request.tasks for argument in task.requires} - needed
    if "visible_masks" in dropped:
        left = replace(left, visible_masks={})
    if "next_image" in dropped:
        # Depth that continues the frame before needs the flow, which would be computed in spite of the budget.
        left = replace(left, next_image=None, next_frame=None, temporal="off")
    return left
