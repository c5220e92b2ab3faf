"""The output messages about one recorded frame."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from diffusion_perception_ros.conversions.fields import image_fields
from diffusion_perception_ros.conversions.results import METRIC_TOPICS, Result, flow_results, image_results
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.replay.frames import Frame


def results(frame: Frame, second: Frame | None, output: PerceptionOutput, color_range: float) -> Iterator[Result]:
    """Everything that a prediction says about a frame.

    Args:
        frame: The frame, whose header all messages carry.
        second: The second frame of the pair, where there is flow.
        output: The prediction.
        color_range: The displacement in pixels that ``flow/color`` draws in full colour.
    """
    yield from image_results(frame.header, frame.image, output)
    if output.depth_metric is not None:
        metres = partial(image_fields, frame.header, output.depth_metric, "32FC1")
        yield Result("depth/image", METRIC_TOPICS["depth/image"], metres)
    if second is not None:
        yield from flow_results(frame.header, second.header["stamp"], output, color_range)
