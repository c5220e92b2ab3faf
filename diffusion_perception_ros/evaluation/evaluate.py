"""The loop: samples in, averages of metrics out, a method beside its baselines."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffusion_perception_ros.evaluation import baselines
from diffusion_perception_ros.evaluation.metrics import (
    affine_invariant_depth_metrics,
    amodal_metrics,
    depth_flicker,
    flow_metrics,
    normal_metrics,
)
from diffusion_perception_ros.evaluation.samples import DepthTruth, FlowTruth, InstanceTruth, NormalTruth, Sample
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.sampling.settings import SamplingSettings

Metrics = dict[str, float]
Predict = Callable[[Sample, Sequence[str]], PerceptionOutput]
"""Answers a sample for some tasks, or leaves some out; the amodal instances come in the order of the sample's."""
_ANSWERS = {"depth": "depth_relative", "flow": "flow", "amodal": "amodal"}


@dataclass(frozen=True)
class Evaluation:
    """Averages: of the pixels or instances of each sample first, of the samples then.

    Attributes:
        method: By task, what was evaluated; tasks without truth are absent. Flicker is the task ``temporal``.
        baselines: By task and name, on the same samples.
        each: By task, the method's metrics of every sample, for paired comparisons.
        missing: By task, how many samples (sequences) have no prediction; they are in none of the averages. Tasks of
            which none is missing are absent.
        stage_ms: By stage, the median time that a sample took, all its tasks together; empty where nobody measured.
    """

    method: Mapping[str, Metrics]
    baselines: Mapping[str, Mapping[str, Metrics]]
    each: Mapping[str, Sequence[Metrics]]
    missing: Mapping[str, int] = field(default_factory=dict)
    stage_ms: Mapping[str, float] = field(default_factory=dict)


def predict_with(pipe: PerceptionPipeline, sampling: SamplingSettings) -> Predict:
    """The answers of a pipeline."""

    def predict(sample: Sample, tasks: Sequence[str]) -> PerceptionOutput:
        return pipe(
            sample.image,
            sample.next_image if "flow" in tasks else None,
            sample.labels if "amodal" in tasks else None,
            tasks=tasks,
            **sampling.arguments,
        )

    return predict


def evaluate(
    predict: Predict,
    samples: Iterable[Sample],
    tasks: Iterable[str],
    sequences: Iterable[Sequence[Sample]] = (),
    with_baselines: bool = True,
) -> Evaluation:
    """Compare predictions with the truth.

    Args:
        predict: Gives the predictions.
        samples: With truth for some of the tasks.
        tasks: Names of the tasks that ``predict`` is able to do.
        sequences: Consecutive frames with depth and, but for the last, flow.
        with_baselines: Whether to evaluate the baselines as well.
    """
    known = frozenset(tasks)
    scores: dict[tuple[str, str | None], list[Metrics]] = defaultdict(list)
    missing: Counter[str] = Counter()
    times: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        wanted = tuple(task for task in sample.tasks if task in known)
        if wanted:
            output = predict(sample, wanted)
            for stage, milliseconds in output.stage_ms.items():
                times[stage].append(milliseconds)
            answered = tuple(task for task in wanted if _is_answered(output, task))
            missing.update(task for task in wanted if task not in answered)
            _score(sample, answered, output, scores, with_baselines)
    if "depth" in known:
        for sequence in sequences:
            answers = [predict(sample, ("depth",)).depth_relative for sample in sequence]
            depths = [depth for depth in answers if depth is not None]
            if len(depths) < len(sequence):
                missing["temporal"] += 1
                continue
            scores["temporal", None].append({"flicker": _flicker(np.stack(depths), sequence)})
            if with_baselines:
                truth = np.stack([sample.depth.depth for sample in sequence if sample.depth is not None])
                scores["temporal", "ground_truth"].append({"flicker": _flicker(truth, sequence)})
    found = {task for task, _ in scores}
    ordered = [task for task in ("depth", "flow", "amodal", "normals", "temporal") if task in found]
    return Evaluation(
        {task: _average(scores[task, None]) for task in ordered},
        {
            task: {name: _average(metrics) for (of, name), metrics in scores.items() if of == task and name}
            for task in ordered
        },
        {task: scores[task, None] for task in ordered},
        dict(missing),
        {stage: float(np.median(values)) for stage, values in times.items()},
    )


def _is_answered(output: PerceptionOutput, task: str) -> bool:
    answer = getattr(output, _ANSWERS[task]) if task in _ANSWERS else output.extra.get(task)
    return answer is not None


def _score(
    sample: Sample,
    tasks: Sequence[str],
    output: PerceptionOutput,
    scores: Mapping[tuple[str, str | None], list[Metrics]],
    with_baselines: bool,
) -> None:
    """Add the metrics of one sample, of the method (None) and of the baselines (by name)."""
    if "depth" in tasks and sample.depth is not None and output.depth_relative is not None:
        scores["depth", None].append(_depth_metrics(output.depth_relative, sample.depth))
        for name, depth in baselines.DEPTH.items() if with_baselines else ():
            scores["depth", name].append(_depth_metrics(depth(sample.depth), sample.depth))
    if "flow" in tasks and sample.flow is not None and sample.next_image is not None and output.flow is not None:
        scores["flow", None].append(_flow_metrics(output.flow, sample.flow))
        for name, flow in baselines.FLOW.items() if with_baselines else ():
            scores["flow", name].append(_flow_metrics(flow(sample.image, sample.next_image), sample.flow))
    if "amodal" in tasks:
        masks = [instance.mask for instance in output.amodal or ()]
        scores["amodal", None].append(_amodal_metrics(masks, sample.instances))
        for name, amodal in baselines.AMODAL.items() if with_baselines else ():
            masks = [amodal(instance) for instance in sample.instances]
            scores["amodal", name].append(_amodal_metrics(masks, sample.instances))
    if "normals" in tasks and sample.normals is not None:
        scores["normals", None].append(_normal_metrics(output.extra["normals"], sample.normals))
        for name, normals in baselines.NORMALS.items() if with_baselines else ():
            scores["normals", name].append(_normal_metrics(normals(sample.normals), sample.normals))


def _depth_metrics(prediction: NDArray[Any], truth: DepthTruth) -> Metrics:
    return affine_invariant_depth_metrics(*map(torch.from_numpy, (prediction, truth.depth, truth.valid)))


def _flow_metrics(prediction: NDArray[np.float32], truth: FlowTruth) -> Metrics:
    first, second = (torch.from_numpy(flow).movedim(-1, 0) for flow in (prediction, truth.flow))
    return flow_metrics(first, second, torch.from_numpy(truth.valid))


def _normal_metrics(prediction: NDArray[np.float32], truth: NormalTruth) -> Metrics:
    first, second = (torch.from_numpy(normals).movedim(-1, 0) for normals in (prediction, truth.normals))
    return normal_metrics(first, second, torch.from_numpy(truth.valid))


def _amodal_metrics(masks: Sequence[NDArray[np.bool_]], instances: Sequence[InstanceTruth]) -> Metrics:
    """The mean over the instances of one sample."""
    each = [
        amodal_metrics(*map(torch.from_numpy, (mask, instance.visible, instance.amodal)))
        for mask, instance in zip(masks, instances, strict=True)
    ]
    return {name: _mean(name, each) for name in each[0]}


def _flicker(depths: NDArray[np.float32], sequence: Sequence[Sample]) -> float:
    truth = [sample.depth for sample in sequence if sample.depth is not None]
    motion = [sample.flow for sample in sequence[:-1] if sample.flow is not None]
    return depth_flicker(
        torch.from_numpy(depths),
        torch.from_numpy(np.stack([depth.depth for depth in truth])),
        torch.from_numpy(np.stack([depth.valid for depth in truth])),
        torch.from_numpy(np.stack([flow.flow for flow in motion])).movedim(-1, 1),
        torch.from_numpy(np.stack([flow.valid for flow in motion])),
    )


def _average(each: Sequence[Metrics]) -> Metrics:
    """Means over samples, and how many there were."""
    counts = {"samples": len(each)}
    if "iou_hidden" in each[0]:
        counts["samples_hidden"] = sum(not math.isnan(metrics["iou_hidden"]) for metrics in each)
    return {name: _mean(name, each) for name in each[0]} | counts


def _mean(name: str, each: Sequence[Metrics]) -> float:
    # NaN says that an object has no hidden part; in every other metric it is a fault that has to be seen.
    values = [metrics[name] for metrics in each if name != "iou_hidden" or not math.isnan(metrics[name])]
    return float(np.mean(values)) if values else math.nan
