from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from diffusion_perception_ros.conversions import ImageError
from diffusion_perception_ros.media.naming import natural_key, unique_names
from diffusion_perception_ros.media.pictures import read_labels, read_picture, write_picture

RNG = np.random.default_rng(0)
BGR = RNG.integers(0, 256, (6, 9, 3)).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "ppm", "bmp", "tif"])
def test_lossless_formats_give_rgb(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    assert cv2.imwrite(str(path), BGR)
    picture = read_picture(path)
    np.testing.assert_array_equal(picture, BGR[..., ::-1])
    assert picture.flags.c_contiguous


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_formats_are_close(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    flat = np.full((16, 16, 3), (200, 120, 40), np.uint8)
    assert cv2.imwrite(str(path), flat)
    assert np.abs(read_picture(path).astype(int) - flat[..., ::-1]).max() <= 6


def test_grey_alpha_and_sixteen_bits(tmp_path: Path) -> None:
    grey = np.array([[0, 257, 65535, 32896]], np.uint16)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    np.testing.assert_array_equal(read_picture(tmp_path / "grey.png")[..., 1], [[0, 1, 255, 128]])
    with_alpha = np.dstack([BGR, np.zeros(BGR.shape[:2], np.uint8)])
    cv2.imwrite(str(tmp_path / "alpha.png"), with_alpha)
    np.testing.assert_array_equal(read_picture(tmp_path / "alpha.png"), BGR[..., ::-1])


def test_exif_orientation_is_obeyed(tmp_path: Path) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:, 16:] = 255
    _, stored = cv2.imencode(".jpg", np.rot90(upright))
    tiff = b"II*\0" + struct.pack("<IHHHII", 8, 1, 0x0112, 3, 1, 6) + b"\0\0\0\0"  # 6: turn clockwise to view
    exif = b"Exif\0\0" + tiff
    data = stored.tobytes()
    (tmp_path / "x.jpg").write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    picture = read_picture(tmp_path / "x.jpg")
    assert picture.shape == upright.shape
    assert np.abs(picture.astype(int) - upright).max() < 30


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_cut_off_files_are_not_filled_up(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    cv2.imwrite(str(path), RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(ImageError, match=path.name) as caught:
        read_picture(path)
    assert caught.value.reason == "undecodable"


def test_unusable_files(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    cv2.imwrite(str(tmp_path / "float.tif"), np.zeros((4, 4, 3), np.float32))
    for name, reason in (
        ("empty.png", "undecodable"),
        ("text.png", "undecodable"),
        ("float.tif", "unknown_encoding"),
        ("none.png", "unreadable"),
    ):
        with pytest.raises(ImageError, match=name) as caught:
            read_picture(tmp_path / name)
        assert caught.value.reason == reason


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_labels_keep_their_numbers(tmp_path: Path, dtype: type) -> None:
    labels: NDArray[Any] = np.array([[0, 1], [200, np.iinfo(dtype).max]], dtype)
    cv2.imwrite(str(tmp_path / "x.png"), labels)
    read = read_labels(tmp_path / "x.png")
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, labels)


def test_coloured_labels_are_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "x.png", BGR)
    with pytest.raises(ImageError, match="no label image"):
        read_labels(tmp_path / "x.png")


def test_natural_order() -> None:
    names = ["b1.png", "a10.png", "A2.png", "a1b3.png", "a01.png", "10.png", "9.png", "a1.png", "²x.png"]
    assert sorted(names, key=natural_key) == [
        "9.png", "10.png", "a01.png", "a1.png", "a1b3.png", "A2.png", "a10.png", "b1.png", "²x.png",
    ]  # fmt: skip


def test_unique_names() -> None:
    assert unique_names(["a", "b", "a", "a_2", "A", "a"]) == ["a", "b", "a_3", "a_2", "A_4", "a_5"]
