"""Optical flow in Middlebury's ``.flo`` files."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.errors import InputError

# "PIEH" in ASCII, 202021.25 as a little-endian float32: it tells the byte order, too.
_MAGIC = b"PIEH"
_HEADER = struct.Struct("<4sii")
_LARGEST_SIDE = 99999
_UNKNOWN = 1e10
_UNKNOWN_FROM = 1e9


def read_flow(path: Path) -> NDArray[np.float32]:
    """Read a flow field.

    The format is that of Middlebury's ``flowIO.cpp`` (Baker et al. 2007): the magic number, width and height as
    int32, then u and v of every pixel, row by row, as float32; all of it little-endian.

    Args:
        path: The file.

    Returns:
        (H, W, 2) float32 pixels, u right and v down; NaN in both where the file has either marked as unknown
        (larger than 1e9, or NaN).

    Raises:
        InputError: The file cannot be read, or is no such file; the sentence names it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    if len(data) < _HEADER.size or not data.startswith(_MAGIC):
        raise InputError(f"{path} is no .flo file: it does not begin with PIEH and a size.")
    _, width, height = _HEADER.unpack_from(data)
    if not (1 <= width <= _LARGEST_SIDE and 1 <= height <= _LARGEST_SIDE):
        raise InputError(f"{path} is damaged: its header says {width}x{height} pixels.")
    missing = _HEADER.size + width * height * 8 - len(data)
    if missing:
        problem = f"{missing} bytes are missing" if missing > 0 else f"there are {-missing} bytes too many"
        raise InputError(f"{path} is damaged: {problem} for {width}x{height} pixels.")
    flow = np.frombuffer(data, "<f4", offset=_HEADER.size).reshape(height, width, 2).astype(np.float32)
    flow[_unknown(flow)] = np.nan
    return flow


def write_flow(path: Path, flow: NDArray[np.float32]) -> None:
    """Write a flow field that ``read_flow`` and the usual tools read.

    Args:
        path: The file; replaced if it exists.
        flow: (H, W, 2) float32 pixels. Pixels with a component that is not finite, or beyond 1e9, are written as 1e10,
            which is the format's mark for unknown flow.

    Raises:
        InputError: ``flow`` is no such array, or the file cannot be written.
    """
    if flow.ndim != 3 or flow.shape[2] != 2 or not all(1 <= side <= _LARGEST_SIDE for side in flow.shape[:2]):
        raise InputError(f"flow of shape {flow.shape} does not fit a .flo file; expected (height, width, 2).")
    values = flow.astype("<f4")
    values[_unknown(values)] = _UNKNOWN
    try:
        path.write_bytes(_HEADER.pack(_MAGIC, flow.shape[1], flow.shape[0]) + values.tobytes())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from None


def _unknown(flow: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(H, W); written so that NaN counts."""
    known: NDArray[np.bool_] = np.abs(flow).max(axis=2) <= _UNKNOWN_FROM
    return ~known
