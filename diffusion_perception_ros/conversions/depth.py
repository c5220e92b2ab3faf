"""Depth images: sensor_msgs/Image -> metres."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions.pixels import Layout, pixels_from_message

# Floats are read as bytes first: pixels_from_message views integers only.
_LAYOUTS = {"16UC1": Layout(1, 2), "mono16": Layout(1, 2), "32FC1": Layout(4, 1)}
_MILLIMETRES = np.float32(1000)


def depth_from_message(message: Any) -> NDArray[np.float32]:
    """Reads depth along the optical axis (REP 118).

    Args:
        message: Any object with the fields of sensor_msgs/Image; 32FC1 in metres, 16UC1 or mono16 in millimetres, rows
            padded or not, either byte order.

    Returns:
        (H, W) float32 metres, a copy in native byte order. 0, NaN and infinity are unknown.

    Raises:
        ImageError: If the message cannot be read; ``reason`` says why in one word.
    """
    encoding, pixels = pixels_from_message(message, _LAYOUTS)
    if encoding != "32FC1":
        return np.asarray(pixels[..., 0].astype(np.float32) / _MILLIMETRES)
    order = ">f4" if message.is_bigendian else "<f4"
    return np.ascontiguousarray(pixels).view(order)[..., 0].astype(np.float32)
