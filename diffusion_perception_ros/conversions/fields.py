"""Predictions -> the fields of output messages, as plain nested dicts that mirror the message definitions.

The dicts know no message class: whoever publishes or writes binds them to rclpy's or rosbags'. Every number
is a plain Python int, float or bool, because rclpy serialises numpy scalars as something else without a word.
Pixels are flat uint8 arrays that view the prediction wherever it lies contiguously in memory.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions.errors import ImageError
from diffusion_perception_ros.conversions.pixels import read_field, read_integer, read_string
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.predictions import AmodalInstance, PerceptionOutput

Fields = dict[str, Any]
"""The fields of one message by name; nested messages are nested dicts, arrays of messages lists of dicts."""

# Element type and shape of one pixel.
_ENCODINGS: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "32FC1": (np.float32, ()),
    "32FC2": (np.float32, (2,)),
    "32FC3": (np.float32, (3,)),
    "mono8": (np.uint8, ()),
    "16UC1": (np.uint16, ()),
    "rgb8": (np.uint8, (3,)),
    "bgr8": (np.uint8, (3,)),
}


def header_fields(sec: int, nanosec: int, frame_id: str) -> Fields:
    """std_msgs/Header."""
    return {"stamp": {"sec": int(sec), "nanosec": int(nanosec)}, "frame_id": str(frame_id)}


def header_from_message(message: Any) -> Fields:
    """The header of any stamped message, so that results carry the stamp and frame of their source.

    Raises:
        ImageError: With reason ``malformed_message``, if the message has no usable header.
    """
    header = read_field(message, "header")
    stamp = read_field(header, "stamp")
    sec, nanosec = read_integer(stamp, "sec"), read_integer(stamp, "nanosec")
    if not (-(1 << 31) <= sec < 1 << 31 and 0 <= nanosec < 10**9):
        raise ImageError("malformed_message", f"the stamp {sec} s, {nanosec} ns is no ROS time")
    return header_fields(sec, nanosec, read_string(header, "frame_id"))


def image_fields(header: Fields, array: NDArray[Any], encoding: str) -> Fields:
    """sensor_msgs/Image, unpadded rows in the byte order of this machine.

    Args:
        header: std_msgs/Header as a dict.
        array: (H, W) float32 for 32FC1, (H, W, 2) for 32FC2, (H, W, 3) for 32FC3, (H, W) uint8 for mono8,
            uint16 for 16UC1, (H, W, 3) uint8 for rgb8 and bgr8. H and W may be zero. NaN is kept.
        encoding: One of these seven.

    Returns:
        The fields; ``data`` views ``array`` if that is C-contiguous and copies it otherwise.

    Raises:
        InputError: If array and encoding do not belong together.
    """
    dtype, pixel = _ENCODINGS.get(encoding, (None, ()))
    if dtype is None or array.dtype != dtype or array.ndim < 2 or array.shape[2:] != pixel:
        raise InputError(f"an array of shape {array.shape} and type {array.dtype} is no {encoding} image")
    height, width = array.shape[:2]
    return {
        "header": header,
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": int(sys.byteorder == "big"),
        "step": width * array.itemsize * math.prod(pixel),
        "data": np.ascontiguousarray(array).reshape(-1).view(np.uint8),
    }


def optical_flow_fields(header: Fields, next_stamp: Fields, output: PerceptionOutput) -> Fields:
    """diffusion_perception_ros/OpticalFlow.

    Args:
        header: Header of the first frame.
        next_stamp: builtin_interfaces/Time of the second frame, as a dict.
        output: A prediction with flow.

    Raises:
        InputError: If there is no flow in ``output``.
    """
    if output.flow is None:
        raise InputError("the prediction has no flow; ask the pipeline for the task 'flow'")
    deviation = output.flow_standard_deviation
    if deviation is None:
        deviation = np.zeros((0, 0), np.float32)
    max_x, max_y = output.max_displacement or (math.nan, math.nan)
    return {
        "header": header,
        "next_stamp": next_stamp,
        "flow": image_fields(header, output.flow, "32FC2"),
        "standard_deviation": image_fields(header, deviation, "32FC1"),
        "max_displacement_x": float(max_x),
        "max_displacement_y": float(max_y),
    }


def amodal_mask_array_fields(
    header: Fields, output: PerceptionOutput, size: tuple[int, int], omitted: int = 0, with_appearance: bool = False
) -> Fields:
    """diffusion_perception_ros/AmodalMaskArray.

    Args:
        header: Header of the frame.
        output: A prediction with amodal instances; an empty list gives an array without masks.
        size: (height, width) of the frame, in pixels.
        omitted: How many instances of the label image were left out.
        with_appearance: Whether to fill ``appearance`` where the checkpoint predicts it.

    Raises:
        InputError: If there are no amodal instances in ``output``.
    """
    if output.amodal is None:
        raise InputError("the prediction has no amodal masks; ask the pipeline for the task 'amodal'")
    return {
        "header": header,
        "height": int(size[0]),
        "width": int(size[1]),
        "masks": [_amodal_mask_fields(header, instance, with_appearance) for instance in output.amodal],
        "omitted": int(omitted),
    }


def _amodal_mask_fields(header: Fields, instance: AmodalInstance, with_appearance: bool) -> Fields:
    """diffusion_perception_ros/AmodalMask."""
    image_height, image_width = instance.mask.shape
    x, y, width, height = bounding_box(instance.mask)
    crop = slice(y, y + height), slice(x, x + width)
    visible_area = int(np.count_nonzero(instance.visible_mask))
    amodal_area = int(np.count_nonzero(instance.mask))
    at_border = x == 0 or y == 0 or x + width == image_width or y + height == image_height
    appearance: NDArray[np.uint8] = np.zeros((0, 0, 3), np.uint8)
    if with_appearance and instance.appearance is not None:
        appearance = instance.appearance[crop]
    return {
        "id": int(instance.id),
        "visible_box": _region_fields(*bounding_box(instance.visible_mask)),
        "amodal_box": _region_fields(x, y, width, height),
        "mask": image_fields(header, instance.mask[crop].astype(np.uint8) * np.uint8(255), "mono8"),
        "visible_area": visible_area,
        "amodal_area": amodal_area,
        "occluded_fraction": 1.0 - visible_area / amodal_area if amodal_area else math.nan,
        "agreement": float(instance.agreement),
        "touches_border": amodal_area > 0 and at_border,
        "appearance": image_fields(header, appearance, "rgb8"),
    }


def bounding_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """x, y, width and height of the smallest box around a (H, W) mask, in pixels; all 0 for an empty mask."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return int(x), int(y), int(width), int(height)


def _region_fields(x: int, y: int, width: int, height: int) -> Fields:
    """sensor_msgs/RegionOfInterest."""
    return {"x_offset": x, "y_offset": y, "height": height, "width": width, "do_rectify": False}
