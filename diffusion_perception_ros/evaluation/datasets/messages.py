"""Ground truth in messages, as arrays of our own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions.image import image_from_message
from diffusion_perception_ros.conversions.pixels import Layout, pixels_from_message

DEPTH_ENCODINGS = ("16UC1", "32FC1")
_MILLIMETRES = np.float32(1000)  # in a metre
# Floats are read as bytes first: the layouts of pixels_from_message know integers only.
_DEPTH = {"16UC1": Layout(1, 2), "32FC1": Layout(4, 1)}
_FLOW = {"32FC2": Layout(8, 1)}
_NORMALS = {"32FC3": Layout(12, 1)}


def depth_from_message(message: Any) -> NDArray[np.float32]:
    """Depth along the optical axis (REP 118).

    Args:
        message: A sensor_msgs/Image, 16UC1 in millimetres or 32FC1 in metres.

    Returns:
        (H, W) metres. What is unknown is 0, NaN or infinite, as it was recorded.

    Raises:
        ImageError: The message cannot be read.
    """
    encoding, pixels = pixels_from_message(message, _DEPTH)
    if encoding == "16UC1":
        return pixels[..., 0].astype(np.float32) / _MILLIMETRES
    return _floats(pixels, message)[..., 0]


def flow_from_message(message: Any) -> NDArray[np.float32]:
    """Optical flow.

    Args:
        message: A sensor_msgs/Image, 32FC2 in pixels.

    Returns:
        (H, W, 2) pixels right and down, NaN where it is unknown.

    Raises:
        ImageError: The message cannot be read.
    """
    _, pixels = pixels_from_message(message, _FLOW)
    return _floats(pixels, message)


def normals_from_message(message: Any) -> NDArray[np.float32]:
    """Surface normals.

    Args:
        message: A sensor_msgs/Image, 32FC3: x right, y down, z forward.

    Returns:
        (H, W, 3), zero or NaN where there is no surface.

    Raises:
        ImageError: The message cannot be read.
    """
    _, pixels = pixels_from_message(message, _NORMALS)
    return _floats(pixels, message)


def amodal_masks_from_message(message: Any) -> dict[int, NDArray[np.bool_]]:
    """The whole of every object.

    Args:
        message: A diffusion_perception_ros/AmodalMaskArray.

    Returns:
        (H, W) masks by id.

    Raises:
        ImageError: A mask cannot be read.
    """
    masks = {}
    for entry in message.masks:
        mask = np.zeros((message.height, message.width), np.bool_)
        box = entry.amodal_box
        if box.width and box.height:
            crop = image_from_message(entry.mask)[..., 0] > 127
            mask[box.y_offset : box.y_offset + box.height, box.x_offset : box.x_offset + box.width] = crop
        masks[int(entry.id)] = mask
    return masks


def _floats(pixels: NDArray[Any], message: Any) -> NDArray[np.float32]:
    """(H, W, 4 C) bytes as (H, W, C) floats in native byte order."""
    return np.ascontiguousarray(pixels).view(">f4" if message.is_bigendian else "<f4").astype(np.float32)
