"""The output messages about one frame: topics, types, and fields that are made only when they are wanted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions.color import amodal_overlay, depth_color, flow_color, normal_color
from diffusion_perception_ros.conversions.fields import (
    Fields,
    amodal_mask_array_fields,
    image_fields,
    optical_flow_fields,
)
from diffusion_perception_ros.predictions import PerceptionOutput

IMAGE = "sensor_msgs/msg/Image"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
OPTICAL_FLOW = "diffusion_perception_ros/msg/OpticalFlow"
AMODAL_MASK_ARRAY = "diffusion_perception_ros/msg/AmodalMaskArray"
PERCEPTION_STATUS = "diffusion_perception_ros/msg/PerceptionStatus"

TASK_TOPICS: dict[str, dict[str, str]] = {
    "depth": {"depth/relative": IMAGE, "depth/uncertainty": IMAGE, "depth/color": IMAGE},
    "flow": {"flow": OPTICAL_FLOW, "flow/image": IMAGE, "flow/color": IMAGE},
    "amodal": {"amodal/masks": AMODAL_MASK_ARRAY, "amodal/overlay": IMAGE},
    "normals": {"normals": IMAGE, "normals/color": IMAGE},
}
"""The topics that each task fills, and their types."""

METRIC_TOPICS: dict[str, str] = {"depth/image": IMAGE, "depth/camera_info": CAMERA_INFO}
"""The topics that depth fills while it is anchored to metres."""


class Result(NamedTuple):
    """One output message; ``topic`` is relative, and ``make`` computes the fields."""

    topic: str
    type: str
    make: Callable[[], Fields]


def image_results(
    header: Fields,
    image: NDArray[np.uint8],
    output: PerceptionOutput,
    omitted: int = 0,
    with_appearance: bool = False,
) -> Iterator[Result]:
    """Everything that a prediction says about one image.

    Args:
        header: Header of the image, which all messages carry.
        image: (H, W, 3) uint8 RGB.
        output: The prediction.
        omitted: How many instances of the label image were left out.
        with_appearance: Whether amodal masks come with the completed objects' colours.
    """

    def result(topic: str, task: str, make: Callable[[], Fields]) -> Result:
        return Result(topic, TASK_TOPICS[task][topic], make)

    depth, uncertainty = output.depth_relative, output.depth_uncertainty
    if depth is not None:
        yield result("depth/relative", "depth", partial(image_fields, header, depth, "32FC1"))
        color = partial(depth_color, depth, output.depth_median)
        yield result("depth/color", "depth", lambda: image_fields(header, color(), "bgr8"))
    if uncertainty is not None:
        yield result("depth/uncertainty", "depth", partial(image_fields, header, uncertainty, "32FC1"))
    amodal = output.amodal
    if amodal is not None:
        size = (image.shape[0], image.shape[1])
        masks = partial(amodal_mask_array_fields, header, output, size, omitted, with_appearance)
        yield result("amodal/masks", "amodal", masks)
        overlay = partial(amodal_overlay, image, amodal)
        yield result("amodal/overlay", "amodal", lambda: image_fields(header, overlay(), "bgr8"))
    if "normals" in output.extra:
        normals = output.extra["normals"]
        yield result("normals", "normals", partial(image_fields, header, normals, "32FC3"))
        yield result("normals/color", "normals", lambda: image_fields(header, normal_color(normals), "bgr8"))


def flow_results(header: Fields, next_stamp: Fields, output: PerceptionOutput, color_range: float) -> Iterator[Result]:
    """Everything that a prediction says about the motion between two frames.

    Args:
        header: Header of the first frame, which all messages carry.
        next_stamp: Stamp of the second frame.
        output: The prediction.
        color_range: The displacement in pixels that ``flow/color`` draws in full colour.
    """
    flow = output.flow
    if flow is None:
        return
    types = TASK_TOPICS["flow"]
    yield Result("flow", types["flow"], partial(optical_flow_fields, header, next_stamp, output))
    yield Result("flow/image", types["flow/image"], partial(image_fields, header, flow, "32FC2"))
    color = partial(flow_color, flow, color_range)
    yield Result("flow/color", types["flow/color"], lambda: image_fields(header, color(), "bgr8"))


def default_flow_range(height: int, width: int) -> float:
    """The displacement in pixels that is drawn in full colour where none is chosen, for frames of this size."""
    return max(8.0, 0.05 * math.hypot(height, width))
