"""From the untrusted fields of a sensor_msgs/Image to an array over its pixels, without copying."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions.errors import ImageError

MAX_SIDE = 1 << 14
"""Larger images are taken for corrupted headers; no camera is near, and cv2's limits are not much above."""

_EIGHT_BITS = np.rint(np.arange(1 << 16) / 257).astype(np.uint8)


class Layout(NamedTuple):
    """How an encoding stores one pixel: this many neighbouring elements of this many bytes."""

    channels: int
    bytes_per_element: int


def to_eight_bits(values: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """16-bit values by their full range, 65535 -> 255, so that brightness means the same in every frame."""
    scaled: NDArray[np.uint8] = _EIGHT_BITS[values]
    return scaled


def read_field(message: Any, name: str) -> Any:
    """A field of a message, or an ImageError where the object has no such field."""
    try:
        return getattr(message, name)
    except AttributeError:
        raise ImageError("malformed_message", f"the message has no field {name!r}") from None


def read_integer(message: Any, name: str) -> int:
    """An integer field of a message as a Python int."""
    value = read_field(message, name)
    try:
        return operator.index(value)
    except TypeError:
        raise ImageError(
            "malformed_message", f"field {name!r} is of type {type(value).__name__}, not an integer"
        ) from None


def read_string(message: Any, name: str) -> str:
    """A string field of a message."""
    value = read_field(message, name)
    if not isinstance(value, str):
        raise ImageError("malformed_message", f"field {name!r} is of type {type(value).__name__}, not a string")
    return value


def read_bytes(message: Any) -> memoryview:
    """The field ``data`` (numpy array, array.array, bytes, ...) as a flat view of bytes, without copying."""
    data = read_field(message, "data")
    try:
        view = memoryview(data)
    except (TypeError, ValueError, BufferError):
        view = None
    if view is None or view.format != "B" or view.ndim != 1 or not view.c_contiguous:
        raise ImageError("malformed_message", f"field 'data' ({type(data).__name__}) is no flat array of bytes")
    return view


def check_size(height: int, width: int) -> None:
    """Raises ImageError for a size that no image has."""
    if height < 1 or width < 1:
        raise ImageError("zero_size", f"the image is {width} x {height} pixels; both sides must be positive")
    if height > MAX_SIDE or width > MAX_SIDE:
        raise ImageError("too_large", f"the image is {width} x {height} pixels; at most {MAX_SIDE} a side")


def pixels_from_message(message: Any, layouts: Mapping[str, Layout]) -> tuple[str, NDArray[Any]]:
    """Checks every field of a sensor_msgs/Image and views its pixels.

    Args:
        message: Any object with the fields of sensor_msgs/Image.
        layouts: The encodings to accept.

    Returns:
        The encoding, and a (H, W, channels) view of the message's own memory, uint8 or uint16 in the byte
        order of the message. It is strided where rows are padded, may be unaligned, and is read-only where
        the data is.

    Raises:
        ImageError: If the fields contradict each other, or the encoding is not in ``layouts``.
    """
    height, width = read_integer(message, "height"), read_integer(message, "width")
    step, is_bigendian = read_integer(message, "step"), read_integer(message, "is_bigendian")
    encoding = read_string(message, "encoding")
    data = read_bytes(message)
    if encoding not in layouts:
        raise ImageError("unknown_encoding", f"encoding {encoding[:40]!r} is none of {', '.join(sorted(layouts))}")
    channels, size = layouts[encoding]
    # Single bytes have no order, and some drivers leave the field unset.
    if size > 1 and is_bigendian not in (0, 1):
        raise ImageError("unknown_endianness", f"is_bigendian is {is_bigendian}; it must be 0 or 1 for {encoding}")
    check_size(height, width)

    row = width * channels * size
    if step < row:
        raise ImageError("size_mismatch", f"step is {step} bytes, but a row of {width} {encoding} pixels has {row}")
    # Several drivers leave out the padding of the last row; any other difference is a wrong header.
    if not step * (height - 1) + row <= len(data) <= step * height:
        raise ImageError(
            "size_mismatch",
            f"data has {len(data)} bytes, but {height} rows of {step} bytes have {height * step}",
        )
    dtype = np.dtype(np.uint8) if size == 1 else np.dtype(">u2" if is_bigendian else "<u2")
    strides = (step, channels * size, size)
    return encoding, np.ndarray((height, width, channels), dtype, data, strides=strides)
