"""Picture files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions import ImageError
from diffusion_perception_ros.conversions.compressed import encoded_size
from diffusion_perception_ros.conversions.pixels import to_eight_bits
from diffusion_perception_ros.errors import InputError

PICTURE_SUFFIXES = frozenset(
    [".bmp", ".dib", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"]
)


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a picture as it is meant to be seen: turned as its EXIF data say, alpha dropped, grey as colour.

    Args:
        path: The file. 16-bit pictures are scaled by the full range (/ 257).

    Returns:
        (H, W, 3) uint8 RGB, C-contiguous.

    Raises:
        ImageError: The file cannot be read or decoded; the sentence names it.
    """
    pixels = _decode(path, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if pixels.dtype == np.uint16:
        pixels = to_eight_bits(pixels)
    if pixels.dtype != np.uint8:
        raise ImageError("unknown_encoding", f"{path} has {pixels.dtype} pixels; save it with 8 or 16 bits.")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def read_labels(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Read a label image: 0 is background, k marks the visible pixels of object k.

    Args:
        path: A grey PNG with 8 or 16 bits.

    Returns:
        (H, W) uint8 or uint16.

    Raises:
        ImageError: The file cannot be read or decoded, or is no grey picture; the sentence names it.
    """
    labels = _decode(path, cv2.IMREAD_UNCHANGED)
    if labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16):
        raise ImageError(
            "unknown_encoding",
            f"{path} is no label image: it has colours (or a palette); save the object numbers as a grey PNG.",
        )
    return labels


def write_picture(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a PNG.

    Args:
        path: The file; replaced if it exists.
        pixels: (H, W) grey or (H, W, 3) BGR.

    Raises:
        InputError: The file cannot be written.
    """
    _, data = cv2.imencode(".png", pixels)
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from None


def check_picture(path: Path) -> None:
    """Look at a file's first bytes only.

    Raises:
        InputError: It is no picture.
    """
    if not cv2.haveImageReader(str(path)):
        raise InputError(f"{path} is not a picture that can be read; its content is no {path.suffix[1:]} or the like.")


def _decode(path: Path, flags: int) -> NDArray[Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError("unreadable", f"{path} cannot be read: {error.strerror}.") from None
    try:
        encoded_size(data)  # some versions of cv2 fill up what is missing in a file that was cut off
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except (ImageError, cv2.error):
        pixels = None
    if pixels is None:
        raise ImageError("undecodable", f"{path} is not a picture, or is damaged.")
    return np.asarray(pixels)
