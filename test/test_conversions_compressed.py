from __future__ import annotations

import array
import contextlib
import struct
import zlib
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from diffusion_perception_ros.conversions import ImageError, image_from_compressed_message

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
RNG = np.random.default_rng(5)


def message(data: Any, format: str = "") -> Any:
    return SimpleNamespace(format=format, data=data)


def reason(message: Any) -> str:
    with pytest.raises(ImageError) as caught:
        image_from_compressed_message(message)
    return caught.value.reason


def png(pixels: NDArray[Any], color_type: int, palette: bytes = b"") -> bytes:
    """A PNG file of (H, W, channels) uint8 or uint16, as the specification has it."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = pixels.shape[:2]
    depth = 8 * pixels.itemsize
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    content = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(content)), chunk(b"IEND", b"")]
    if palette:
        chunks.insert(1, chunk(b"PLTE", palette))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg(image_rgb: NDArray[np.uint8], *options: int) -> bytes:
    return cv2.imencode(".jpg", image_rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98, *options])[1].tobytes()


def with_exif(data: bytes, *, orientation: int = 1, thumbnail: bytes = b"") -> bytes:
    """The JPEG with an EXIF segment that asks for a rotation and holds a thumbnail."""
    entry = struct.pack("<HHII", 0x0112, 3, 1, orientation)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4) + thumbnail
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


def gradient(height: int = 40, width: int = 64) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    return np.stack([np.full_like(x, 230), 4 * y, 2 * x], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("format", ["jpeg", "jpg", "rgb8; jpeg compressed bgr8", "bgr8; jpeg compressed ", "", "png"])
def test_jpeg_is_rgb_whatever_the_format_claims(format: str) -> None:
    image = image_from_compressed_message(message(jpeg(gradient()), format))
    assert image.flags.c_contiguous
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - gradient()).max() <= 8


def test_progressive_and_grey_jpeg() -> None:
    progressive = jpeg(gradient(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    assert np.abs(image_from_compressed_message(message(progressive)).astype(int) - gradient()).max() <= 8
    grey = gradient()[..., 1]
    image = image_from_compressed_message(message(cv2.imencode(".jpg", grey)[1]))
    assert np.abs(image.astype(int) - grey[..., None]).max() <= 8


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, lambda data: array.array("B", data)])
def test_containers_of_bytes(wrap: Any) -> None:
    pixels = RNG.integers(0, 256, (6, 7, 3), np.uint8)
    np.testing.assert_array_equal(image_from_compressed_message(message(wrap(png(pixels, RGB)))), pixels)


@pytest.mark.parametrize("color_type", [GREY, RGB, GREY_ALPHA, RGB_ALPHA])
@pytest.mark.parametrize("bits", [8, 16])
def test_png_of_every_kind(color_type: int, bits: int) -> None:
    channels = {GREY: 1, RGB: 3, GREY_ALPHA: 2, RGB_ALPHA: 4}[color_type]
    dtype = np.dtype(np.uint8 if bits == 8 else np.uint16)
    pixels: NDArray[Any] = RNG.integers(0, 1 << bits, (9, 7, channels)).astype(dtype)
    image = image_from_compressed_message(message(png(pixels, color_type), "png"))
    color = pixels[..., :3] if channels >= 3 else pixels[..., :1]
    expected = np.broadcast_to(np.rint(color / 257) if bits == 16 else color, (9, 7, 3))
    np.testing.assert_array_equal(image, expected)


def test_png_with_a_palette() -> None:
    indices = RNG.integers(0, 2, (5, 6, 1), np.uint8)
    image = image_from_compressed_message(message(png(indices, PALETTE, bytes([250, 0, 0, 0, 0, 90]))))
    np.testing.assert_array_equal(image, np.array([[250, 0, 0], [0, 0, 90]])[indices[..., 0]])


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_exif_orientation_is_ignored(orientation: int) -> None:
    image = image_from_compressed_message(message(with_exif(jpeg(gradient()), orientation=orientation)))
    assert np.abs(image.astype(int) - gradient()).max() <= 8


def test_a_jpeg_cut_off_behind_its_thumbnail_is_undecodable() -> None:
    whole = with_exif(jpeg(gradient()), thumbnail=jpeg(gradient(8, 8)))
    image_from_compressed_message(message(whole))
    assert reason(message(whole[:-300])) == "undecodable"


@pytest.mark.parametrize("padding", [b"\0" * 5, b"\xff\xd9", b"garbage"])
def test_bytes_after_the_end_do_not_matter(padding: bytes) -> None:
    for whole in (jpeg(gradient()), png(gradient(), RGB)):
        expected = image_from_compressed_message(message(whole))
        np.testing.assert_array_equal(image_from_compressed_message(message(whole + padding)), expected)


@given(st.sampled_from(["jpeg", "progressive", "png"]), st.floats(0, 1, exclude_max=True))
def test_a_file_cut_off_anywhere_is_refused(kind: str, share: float) -> None:
    whole = {
        "jpeg": jpeg(gradient()),
        "progressive": jpeg(gradient(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        "png": png(gradient(), RGB),
    }[kind]
    cut = whole[: int(share * len(whole))]
    assert reason(message(cut)) == ("unknown_encoding" if 0 < len(cut) < (8 if kind == "png" else 3) else "undecodable")


@given(st.booleans(), st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4))
def test_damaged_bytes_raise_nothing_but_image_errors(is_png: bool, changes: list[tuple[float, int]]) -> None:
    damaged = bytearray(png(gradient(), RGB) if is_png else jpeg(gradient()))
    for share, value in changes:
        damaged[int(share * len(damaged))] = value
    with contextlib.suppress(ImageError):
        image = image_from_compressed_message(message(damaged))
        assert image.ndim == 3
        assert image.shape[2] == 3


@given(st.binary(max_size=80), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]))
def test_garbage_raises_an_image_error(data: bytes, signature: bytes) -> None:
    assert reason(message(signature + data)) in ("undecodable", "unknown_encoding", "zero_size", "too_large")


@pytest.mark.parametrize(
    ("data", "format", "expected"),
    [
        (png(gradient(), RGB), "16UC1; compressedDepth png", "compressed_depth"),
        (bytes(12) + png(gradient(), RGB), "32FC1; compressedDepth", "compressed_depth"),
        (b"", "jpeg", "undecodable"),
        (b"GIF89a" + bytes(40), "gif", "unknown_encoding"),
        (b"\0\0\0\1\x67" + bytes(40), "h264", "unknown_encoding"),
        (None, "jpeg", "malformed_message"),
        (np.zeros(9, np.float32), "jpeg", "malformed_message"),
        (jpeg(gradient()), None, "malformed_message"),
        (jpeg(gradient()), b"jpeg", "malformed_message"),
    ],
)
def test_what_is_no_picture_is_refused_with_its_reason(data: Any, format: Any, expected: str) -> None:
    assert reason(message(data, format)) == expected


def test_a_header_that_claims_a_gigantic_image_is_refused_before_decoding() -> None:
    huge_png = bytearray(png(gradient(), RGB))
    huge_png[16:24] = struct.pack(">II", 30_000, 30_000)
    assert reason(message(huge_png)) == "too_large"
    huge_jpeg = jpeg(gradient())
    start = huge_jpeg.index(b"\xff\xc0") + 5
    assert reason(message(huge_jpeg[:start] + b"\xff\xff\xff\xff" + huge_jpeg[start + 4 :])) == "too_large"
