"""A whole benchmark: every configuration in turn, and what there is to say about each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from typing import Any

import torch
from torch import nn

from diffusion_perception_ros.benchmarking.clip import Clip
from diffusion_perception_ros.benchmarking.configuration import Configuration
from diffusion_perception_ros.benchmarking.measure import Effort, Measurement, Streams
from diffusion_perception_ros.benchmarking.models import Models, networks, released_codec
from diffusion_perception_ros.benchmarking.roofline import Peaks, measure_peaks, stage_work
from diffusion_perception_ros.benchmarking.spread import Spread
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.queries import Plan

Row = dict[str, Any]


def measure_all(
    configurations: Sequence[Configuration],
    device: torch.device,
    clip: Clip,
    effort: Effort,
    with_released: bool,
    begin: Callable[[Configuration], None] = lambda configuration: None,
) -> Iterator[Row]:
    """Rows of plain JSON values, as soon as they are there.

    Args:
        configurations: From ``combine``.
        device: Where to run.
        clip: What the camera sees.
        effort: For each group of configurations that are measured in turn.
        with_released: Also the released way, on the same frames in turn with ours.
        begin: Called with the first of each group.

    Raises:
        InputError: A checkpoint is unusable.
    """
    peaks: dict[str, Peaks] = {}
    for (checkpoint, resolution), same in groupby(configurations, lambda c: (c.checkpoint, c.resolution)):
        own = list(same)
        models = Models(checkpoint, resolution, [configuration.dtype for configuration in own], device)
        streams = Streams(models, clip, device)
        for _, group in groupby(own, lambda c: (c.tasks, c.steps)):
            members = [replace(configuration, resolution=models.resolution) for configuration in group]
            begin(members[0])
            # Again and again, as at any one time something else may be in the way.
            for dtype in {member.dtype for member in members}:
                peaks[dtype] = measure_peaks(device, getattr(torch, dtype)).best(peaks.get(dtype))
            for measurement in streams.measure(members, effort, with_released):
                yield _row(measurement, models, clip, peaks[measurement.configuration.dtype])


def _row(measurement: Measurement, models: Models, clip: Clip, peaks: Peaks) -> Row:
    configuration = measurement.configuration
    row: Row = configuration.to_dict()
    if measurement.error is not None:
        return {**row, "error": measurement.error}
    pipe = models.pipeline(*configuration.model)
    total = measurement.spreads["total"]
    row["decoding"] = pipe.decoding(configuration.steps)
    row["milliseconds"] = {stage: asdict(spread) for stage, spread in measurement.spreads.items()}
    row["frames_per_second"] = 1e3 / total.median
    row["memory"] = {"weights": weight_bytes(pipe), "working": measurement.memory}
    row["roofline"] = _roofline(measurement, pipe, clip, peaks)
    if measurement.ratio is not None:
        row["released"] = {
            "codec": released_codec(configuration.codec),
            "total": asdict(Spread.of(measurement.released)),
            "ratio": asdict(measurement.ratio),
            "difference": measurement.difference,
        }
    elif measurement.released_error is not None:
        row["released"] = {"error": measurement.released_error}
    return row


def _roofline(measurement: Measurement, pipe: PerceptionPipeline, clip: Clip, peaks: Peaks) -> Row:
    """Of each stage that computes something: work, the time that the device needs at least, and the share reached."""
    configuration = measurement.configuration
    request = pipe.request(
        *clip.arguments(0, configuration.tasks),
        tasks=configuration.tasks,
        num_inference_steps=configuration.steps,
    )
    samples = len(Plan(pipe.metadata, request).queries)
    stages: Row = {}
    for stage, work in stage_work(pipe, measurement.pictures, samples, configuration.steps).items():
        # Of a decoder of perception nothing is known here, nor of what it makes the transformer leave out.
        if work.flops and (pipe.decoder is None or stage == "encode"):
            milliseconds = measurement.spreads[stage].median
            stages[stage] = {
                "flops": work.flops,
                "bytes": work.bytes,
                "fastest_ms": work.fastest(peaks),
                "bound": work.bound(peaks),
                "fraction": work.fastest(peaks) / milliseconds,
                "matrix_fraction": 1e3 * work.flops / milliseconds / peaks.flops,
            }
    return {"peak_flops": peaks.flops, "peak_bytes": peaks.bytes, "samples": samples, "stages": stages}


def weight_bytes(pipe: PerceptionPipeline) -> int:
    """Of the transformer and the codec."""
    parts: list[nn.Module] = [pipe.transformer, *networks(pipe.codec), *([pipe.decoder] if pipe.decoder else [])]
    return sum(tensor.nbytes for part in parts for tensor in part.state_dict().values())
