"""Raw images: sensor_msgs/Image -> RGB."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions.errors import ImageError
from diffusion_perception_ros.conversions.pixels import Layout, pixels_from_message, to_eight_bits

# Where red, green and blue are within a pixel.
_COLOR_CHANNELS: dict[str, slice] = {
    **dict.fromkeys(("rgb8", "rgba8", "rgb16", "rgba16"), slice(0, 3)),
    **dict.fromkeys(("bgr8", "8UC3", "bgr16"), slice(None, None, -1)),
    **dict.fromkeys(("bgra8", "bgra16"), slice(2, None, -1)),
}
# ROS names the YUV 4:2:2 encodings twice; the bare "yuv422" is UYVY.
_YUV_CODES: dict[str, int] = {
    "yuv422": cv2.COLOR_YUV2RGB_UYVY,
    "uyvy": cv2.COLOR_YUV2RGB_UYVY,
    "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUY2,
    "yuyv": cv2.COLOR_YUV2RGB_YUY2,
}
# ROS names a Bayer pattern by the first two pixels of the first two rows, OpenCV's old names (the only ones
# that every version has) by the second and third pixel of the second and third row: RGGB here is BG there.
_BAYER_CODES: dict[str, int] = {
    "bayer_rggb8": cv2.COLOR_BayerBG2RGB,
    "bayer_bggr8": cv2.COLOR_BayerRG2RGB,
    "bayer_gbrg8": cv2.COLOR_BayerGR2RGB,
    "bayer_grbg8": cv2.COLOR_BayerGB2RGB,
    "bayer_rggb16": cv2.COLOR_BayerBG2RGB,
    "bayer_bggr16": cv2.COLOR_BayerRG2RGB,
    "bayer_gbrg16": cv2.COLOR_BayerGR2RGB,
    "bayer_grbg16": cv2.COLOR_BayerGB2RGB,
}
_LAYOUTS: dict[str, Layout] = {
    **{name: Layout(3, 1) for name in ("rgb8", "bgr8", "8UC3")},
    **{name: Layout(4, 1) for name in ("rgba8", "bgra8")},
    **{name: Layout(3, 2) for name in ("rgb16", "bgr16")},
    **{name: Layout(4, 2) for name in ("rgba16", "bgra16")},
    **{name: Layout(1, 1) for name in ("mono8", "8UC1")},
    **{name: Layout(1, 2) for name in ("mono16", "16UC1")},
    **{name: Layout(2, 1) for name in _YUV_CODES},
    **{name: Layout(1, 2 if name.endswith("16") else 1) for name in _BAYER_CODES},
}


def image_from_message(message: Any) -> NDArray[np.uint8]:
    """Reads a sensor_msgs/Image.

    Encodings: {rgb,bgr,rgba,bgra}{8,16}, 8UC3 (taken as bgr8, as cv_bridge and OpenCV do), mono8, 8UC1, mono16,
    16UC1, yuv422 (also uyvy), yuv422_yuy2 (also yuyv), bayer_{rggb,bggr,gbrg,grbg}{8,16}. Rows may be padded,
    16-bit data of either byte order. 16-bit values are scaled by their full range (/ 257), never by
    the frame's. YUV is BT.601, limited range. Alpha is dropped.

    Args:
        message: Any object with the fields of sensor_msgs/Image, rclpy's or rosbags'; ``data`` may be a numpy
            array, array.array, bytes or memoryview of bytes.

    Returns:
        (H, W, 3) uint8 RGB. For the 8-bit colour encodings this is a view of the message's own memory, not to
        be written to: strided where rows are padded, with a negative stride over the channels for bgr8, 8UC3 and
        bgra8 (torch needs ``np.ascontiguousarray`` of it).

    Raises:
        ImageError: If the message cannot be read; ``reason`` says why in one word.
    """
    encoding, pixels = pixels_from_message(message, _LAYOUTS)
    if encoding in _COLOR_CHANNELS:
        channels = pixels[..., _COLOR_CHANNELS[encoding]]
        return channels if pixels.itemsize == 1 else to_eight_bits(channels)
    height, width, _ = pixels.shape
    if encoding in _YUV_CODES:
        if width % 2:
            raise ImageError(
                "unsupported_size",
                f"{encoding} pixels share their colour in pairs, but the width is odd ({width})",
            )
        return _convert(pixels, _YUV_CODES[encoding])
    grey = pixels[..., 0] if pixels.itemsize == 1 else to_eight_bits(pixels[..., 0])
    if encoding not in _BAYER_CODES:
        return _convert(grey, cv2.COLOR_GRAY2RGB)
    if height < 3 or width < 3:
        raise ImageError(
            "unsupported_size",
            f"{encoding} needs at least 3 x 3 pixels to find colours, got {width} x {height}",
        )
    return _convert(grey, _BAYER_CODES[encoding])


def _convert(pixels: NDArray[np.uint8], code: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(pixels, code), np.uint8)
