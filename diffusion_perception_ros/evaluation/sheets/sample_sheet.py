"""The sheet of a checkpoint: some samples with its predictions and figures, above the figures of all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from diffusion_perception_ros.evaluation.evaluate import Evaluation, Metrics, Predict, evaluate
from diffusion_perception_ros.evaluation.samples import Sample
from diffusion_perception_ros.evaluation.sheets.contact_sheet import Group, Heading, Row, contact_sheet
from diffusion_perception_ros.evaluation.sheets.drawing import Picture
from diffusion_perception_ros.evaluation.sheets.groups import DEPTH_ERROR, NORMALS_ERROR, flow_range, task_groups
from diffusion_perception_ros.evaluation.sheets.tiles import amodal_tiles, depth_tiles, flow_tiles, normal_tiles
from diffusion_perception_ros.model.metadata import CheckpointMetadata
from diffusion_perception_ros.predictions import PerceptionOutput

_BASELINES = {
    "depth": ("AbsRel", ("abs_rel",)),
    "flow": ("EPE px", ("epe",)),
    "amodal": ("mIoU / hidden part", ("iou", "iou_hidden")),
    "normals": ("mean degrees", ("mean",)),
}
_WARNING = "RANDOM WEIGHTS, NOT TRAINED: these predictions mean nothing yet"


def sample_sheet(
    title: str,
    notes: Sequence[str],
    samples: Iterable[tuple[str, Sample]],
    predict: Predict,
    metadata: CheckpointMetadata,
    evaluation: Evaluation,
    total: str,
) -> Picture:
    """Draw it.

    Args:
        title: In large letters.
        notes: Lines below the title.
        samples: A row each: a caption, and an image with its truth, all of one size; at least one.
        predict: Gives the predictions.
        metadata: Of the checkpoint that made them.
        evaluation: Whose figures stand at the bottom.
        total: What those are of.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    tasks = [task for task in _BASELINES if task in metadata.tasks]
    named = list(samples)
    groups = task_groups(named[0][1].image.shape[1])
    camera = Group("Camera", ("image", "next image") if "flow" in tasks else ("image",))
    rows = [_row(name, sample, predict, metadata, tasks) for name, sample in named]
    totals = [[total, "baselines"], *(_totals(task, evaluation) for task in tasks)]
    heading = Heading(title, notes, totals, _WARNING if metadata.is_random else None)
    return contact_sheet(heading, [camera, *(groups[task] for task in tasks)], rows)


def _row(name: str, sample: Sample, predict: Predict, metadata: CheckpointMetadata, tasks: Sequence[str]) -> Row:
    known = [task for task in tasks if task in sample.tasks]
    figures = evaluate(predict, [sample], known, with_baselines=False).method
    output = predict(sample, known)
    images = [sample.image]
    if "flow" in tasks:
        images.append(np.full_like(sample.image, 255) if sample.next_image is None else sample.next_image)
    tiles: list[Sequence[Picture] | str] = [[image[..., ::-1].copy() for image in images]]
    captions = [name]
    for task in tasks:
        tiles.append(_tiles(task, sample, output, metadata))
        captions.append(_caption(task, figures[task]) if task in figures else "")
    return Row(tiles, captions)


def _tiles(
    task: str, sample: Sample, output: PerceptionOutput, metadata: CheckpointMetadata
) -> Sequence[Picture] | str:
    """Prediction, truth and error, or why there are none."""
    if task not in sample.tasks:
        return "no object is large enough" if task == "amodal" else "the truth is not known"
    if output.depth_relative is not None and sample.depth is not None and task == "depth":
        return depth_tiles(output.depth_relative, sample.depth, metadata.tasks["depth"], DEPTH_ERROR)
    if output.flow is not None and sample.flow is not None and task == "flow":
        full = flow_range(sample.image.shape[1])
        return flow_tiles(output.flow, sample.flow, full, full / 2)
    if output.amodal is not None and task == "amodal":
        return amodal_tiles(sample.image, output.amodal, sample.instances)
    if "normals" in output.extra and sample.normals is not None and task == "normals":
        return normal_tiles(output.extra["normals"], sample.normals, NORMALS_ERROR)
    return "nothing was predicted"


def _caption(task: str, figures: Metrics) -> str:
    if task == "depth":
        return f"AbsRel {figures['abs_rel']:.3f}, delta1 {figures['delta1']:.3f}"
    if task == "flow":
        return f"EPE {figures['epe']:.2f} px (zero flow: {figures['epe_zero']:.2f} px)"
    if task == "normals":
        return f"mean {figures['mean']:.1f}, median {figures['median']:.1f} degrees"
    hidden = figures["iou_hidden"]
    return f"mIoU {figures['iou']:.3f}" + ("" if math.isnan(hidden) else f", hidden part {hidden:.3f}")


def _totals(task: str, evaluation: Evaluation) -> Sequence[str]:
    """The checkpoint's figures, then those of the baselines."""
    if task not in evaluation.method:
        return ()
    heading, metrics = _BASELINES[task]
    baselines = [
        f"{name.replace('_', ' ')} {' / '.join(f'{figures[metric]:.3f}' for metric in metrics)}"
        for name, figures in evaluation.baselines.get(task, {}).items()
    ]
    return _caption(task, evaluation.method[task]), f"{heading}: {', '.join(baselines)}"
