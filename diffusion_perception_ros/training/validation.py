"""Metrics on held-out scenes while training, asked as a user asks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffusion_perception_ros.evaluation.datasets.scenes import FARTHEST
from diffusion_perception_ros.evaluation.metrics import (
    affine_invariant_depth_metrics,
    amodal_metrics,
    flow_metrics,
    normal_metrics,
)
from diffusion_perception_ros.evaluation.samples import NormalTruth
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.training.cache import unpack_masks


def predict(pipe: PerceptionPipeline, record: Any, num_inference_steps: int) -> PerceptionOutput:
    """The answers of the checkpoint's sampler to all its tasks."""
    visible = unpack_masks(record["masks"])["visible"]
    tasks = [name for name in pipe.metadata.tasks if name != "amodal" or visible.any()]
    return pipe(
        np.asarray(record["image"]),
        np.asarray(record["next_image"]),
        visible.astype(np.uint8) if visible.any() else None,
        tasks=tasks,
        num_inference_steps=num_inference_steps,
    )


def validate(pipe: PerceptionPipeline, records: NDArray[Any], num_inference_steps: int) -> dict[str, float]:
    """Means over the scenes of what each task is judged by.

    Returns:
        ``abs_rel`` and ``delta1`` of depth after affine alignment, ``epe`` (px) and ``epe_ratio`` to that of zero flow,
        ``iou`` and ``iou_hidden`` of amodal masks, ``angle`` between normals (degrees); of the tasks that the
        checkpoint has.
    """
    scores: dict[str, list[float]] = {}
    for record in records:
        output = predict(pipe, record, num_inference_steps)
        for name, value in _scores(output, record).items():
            scores.setdefault(name, []).append(value)
    means = {name: float(np.nanmean(values)) for name, values in scores.items()}
    if "epe_zero" in means:
        means["epe_ratio"] = means["epe"] / means.pop("epe_zero")
    return means


def badness(metrics: dict[str, float]) -> float:
    """One number to choose a checkpoint by: the geometric mean of the tasks' errors, which have different units."""
    errors = [metrics[name] for name in ("abs_rel", "epe_ratio") if name in metrics]
    errors += [1 - metrics[name] for name in ("iou", "iou_hidden") if name in metrics]
    errors += [metrics["angle"] / 90] if "angle" in metrics else []
    return math.prod(errors) ** (1 / len(errors)) if errors else 0.0


def _scores(output: PerceptionOutput, record: Any) -> dict[str, float]:
    masks = {name: torch.from_numpy(mask) for name, mask in unpack_masks(record["masks"]).items()}
    scores: dict[str, float] = {}
    if output.depth_relative is not None:
        depth = torch.from_numpy(record["depth"].astype(np.float32))
        metrics = affine_invariant_depth_metrics(torch.from_numpy(output.depth_relative), depth, depth < FARTHEST)
        scores |= {name: metrics[name] for name in ("abs_rel", "delta1")}
    if output.flow is not None:
        truth = torch.from_numpy(record["flow"].astype(np.float32)).permute(2, 0, 1)
        metrics = flow_metrics(torch.from_numpy(output.flow).permute(2, 0, 1), truth, masks["flow_valid"])
        scores |= {name: metrics[name] for name in ("epe", "epe_zero")}
    for instance in output.amodal or ():
        scores |= amodal_metrics(torch.from_numpy(instance.mask), masks["visible"], masks["amodal"])
    if "normals" in output.extra:
        known = NormalTruth.where_known(record["normals"].astype(np.float32))
        answer, truth = (torch.from_numpy(x).permute(2, 0, 1) for x in (output.extra["normals"], known.normals))
        scores["angle"] = normal_metrics(answer, truth, torch.from_numpy(known.valid))["mean"]
    return scores


def columns(metrics: Sequence[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """Metrics of several numbers of steps under names such as ``abs_rel_4``."""
    return {f"{name}_{steps}": value for steps, values in metrics for name, value in values.items()}
