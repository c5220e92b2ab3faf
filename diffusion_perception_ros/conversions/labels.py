"""Label images: sensor_msgs/Image -> one integer per pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions.pixels import Layout, pixels_from_message

_LAYOUTS: dict[str, Layout] = {
    "mono8": Layout(1, 1),
    "8UC1": Layout(1, 1),
    "mono16": Layout(1, 2),
    "16UC1": Layout(1, 2),
}


def labels_from_message(message: Any) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Reads a label image: 0 is background, k marks the visible pixels of instance k.

    Args:
        message: Any object with the fields of sensor_msgs/Image; encoding mono8, 8UC1, mono16 or 16UC1, rows
            padded or not, either byte order.

    Returns:
        (H, W) uint8 (a view of the message's own memory, not to be written to) or uint16 (a copy in native
        byte order).

    Raises:
        ImageError: If the message cannot be read; ``reason`` says why in one word.
    """
    _, pixels = pixels_from_message(message, _LAYOUTS)
    return pixels[..., 0] if pixels.itemsize == 1 else pixels[..., 0].astype(np.uint16)
