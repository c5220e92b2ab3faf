"""The output messages about one frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from diffusion_perception_ros.conversions import (
    amodal_mask_array_fields,
    amodal_overlay,
    depth_color,
    flow_color,
    image_fields,
    optical_flow_fields,
)
from diffusion_perception_ros.conversions.fields import Fields
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.replay.definitions import AMODAL_MASK_ARRAY, IMAGE, OPTICAL_FLOW
from diffusion_perception_ros.replay.frames import Frame


class Result(NamedTuple):
    """One output message; ``topic`` is relative to the namespace."""

    topic: str
    type: str
    fields: Fields


def results(frame: Frame, second: Frame | None, output: PerceptionOutput, color_range: float) -> Iterator[Result]:
    """Everything that a prediction says about a frame.

    Args:
        frame: The frame, whose header all messages carry.
        second: The second frame of the pair, where there is flow.
        output: The prediction.
        color_range: The displacement in pixels that ``flow/color`` draws in full colour.
    """
    header = frame.header
    if output.depth_relative is not None:
        yield Result("depth/relative", IMAGE, image_fields(header, output.depth_relative, "32FC1"))
        yield Result("depth/color", IMAGE, image_fields(header, depth_color(output.depth_relative), "bgr8"))
    if output.depth_uncertainty is not None:
        yield Result("depth/uncertainty", IMAGE, image_fields(header, output.depth_uncertainty, "32FC1"))
    if output.flow is not None and second is not None:
        yield Result("flow", OPTICAL_FLOW, optical_flow_fields(header, second.header["stamp"], output))
        yield Result("flow/image", IMAGE, image_fields(header, output.flow, "32FC2"))
        yield Result("flow/color", IMAGE, image_fields(header, flow_color(output.flow, color_range), "bgr8"))
    if output.amodal is not None:
        masks = amodal_mask_array_fields(header, output, frame.image.shape[:2])
        yield Result("amodal/masks", AMODAL_MASK_ARRAY, masks)
        overlay = amodal_overlay(frame.image, output.amodal)
        yield Result("amodal/overlay", IMAGE, image_fields(header, overlay, "bgr8"))
