"""Compressed images: sensor_msgs/CompressedImage with JPEG or PNG -> RGB."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions.errors import ImageError
from diffusion_perception_ros.conversions.pixels import check_size, read_bytes, read_string, to_eight_bits

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_JPEG_START_OF_SCAN = 0xDA
# Start-of-frame markers; the four others in 0xC0..0xCF are tables and extensions.
_JPEG_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def image_from_compressed_message(message: Any) -> NDArray[np.uint8]:
    """Reads a sensor_msgs/CompressedImage that holds a JPEG or a PNG.

    The bytes say what they are; ``format`` is looked at only to refuse the compressedDepth transport, whose
    payload is no picture. PNG may be grey, palette or colour, with or without alpha (dropped), 8 or 16 bit
    (scaled by the full range, / 257). An EXIF orientation is ignored: camera_info and all other topics are
    about the pixels as stored.

    Args:
        message: Any object with the fields of sensor_msgs/CompressedImage; ``data`` as for
            ``image_from_message``.

    Returns:
        (H, W, 3) uint8 RGB, C-contiguous.

    Raises:
        ImageError: If the message cannot be read; ``reason`` says why in one word.
    """
    declared = read_string(message, "format")
    view = read_bytes(message)
    if "compresseddepth" in declared.lower():
        raise ImageError("compressed_depth", f"format {declared[:60]!r} is depth, not a picture")
    data = view.tobytes()
    if not data:
        raise _undecodable("the compressed image is empty")
    size = encoded_size(data)
    if size is None:
        raise ImageError("unknown_encoding", f"the data (format {declared[:60]!r}) is neither JPEG nor PNG")
    height, width = size
    # Before decoding: a corrupted header must not make the decoder ask for gigabytes.
    check_size(height, width)
    try:
        # IMREAD_UNCHANGED keeps 16 bits and ignores the EXIF orientation.
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        decoded = None
    if decoded is None or decoded.shape[:2] != (height, width):
        raise _undecodable("the compressed image does not decode")
    pixels = decoded if decoded.dtype == np.uint8 else to_eight_bits(np.asarray(decoded, np.uint16))
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    code = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}[channels]
    return np.asarray(cv2.cvtColor(pixels, code), np.uint8)


def encoded_size(data: bytes) -> tuple[int, int] | None:
    """Height and width that a JPEG or PNG declares; None for everything else.

    Raises:
        ImageError: If it is cut off or damaged; ``reason`` is ``undecodable``.
    """
    if data.startswith(_PNG_SIGNATURE):
        return _png_size(data)
    return _jpeg_size(data) if data.startswith(_JPEG_SIGNATURE) else None


def _undecodable(sentence: str) -> ImageError:
    return ImageError("undecodable", sentence)


def _png_size(data: bytes) -> tuple[int, int]:
    """Height and width of a PNG that is there to its end (some versions of cv2 fill up what is missing)."""
    if data[12:16] != b"IHDR" or _PNG_END not in data:
        raise _undecodable("the PNG image is cut off or damaged")
    return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Height and width of a JPEG that is there to its end (some versions of cv2 paint the missing part grey).

    The segments are walked up to the scan, because an EXIF thumbnail is a JPEG with an end of its own.
    """
    size = None
    position = len(_JPEG_SIGNATURE) - 1
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker in _JPEG_START_OF_FRAME:
            height_bytes, width_bytes = data[position + 5 : position + 7], data[position + 7 : position + 9]
            size = int.from_bytes(height_bytes, "big"), int.from_bytes(width_bytes, "big")
        if marker == _JPEG_START_OF_SCAN:
            if size is not None and data.find(_JPEG_END, position) >= 0:
                return size
            break
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise _undecodable("the JPEG image is cut off or damaged")
