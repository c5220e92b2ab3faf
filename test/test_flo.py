from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import shared
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.media.flo import read_flow, write_flow

FIELDS = npst.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(2)),
    elements=st.floats(-1e9, 1e9, width=32) | st.just(float("nan")) | st.just(float("inf")),
)


@given(flow=FIELDS)
def test_round_trip(flow: NDArray[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("flo") / "x.flo"
    write_flow(path, flow)
    expected = flow.copy()
    expected[~np.isfinite(flow).all(axis=2)] = np.nan
    np.testing.assert_array_equal(read_flow(path), expected)


def test_bytes_are_those_of_the_format(tmp_path: Path) -> None:
    flow = np.array([[[1.5, -2.0], [np.nan, 3.0]]], np.float32)
    write_flow(tmp_path / "x.flo", flow)
    expected = struct.pack("<fii4f", 202021.25, 2, 1, 1.5, -2.0, 1e10, 1e10)
    assert (tmp_path / "x.flo").read_bytes() == expected
    assert np.isnan(flow[0, 1, 0])  # the caller's array stays as it is


def test_reads_the_flow_of_flying_chairs() -> None:
    flow = read_flow(shared("toy_data", "FlyingChairs_small", "data", "00006_flow.flo"))
    assert flow.shape == (384, 512, 2)
    assert flow.dtype == np.float32
    assert 1 < np.nanmax(np.abs(flow)) < 200


@given(data=st.binary(max_size=64) | st.binary(max_size=64).map(lambda tail: b"PIEH" + tail))
def test_foreign_bytes_are_an_input_error(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("flo") / "x.flo"
    path.write_bytes(data)
    try:
        flow = read_flow(path)
    except InputError:
        return
    assert len(data) == 12 + flow.size * 4


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no .flo file"),
        (struct.pack(">fii2f", 202021.25, 1, 1, 0, 0), "no .flo file"),
        (struct.pack("<fii", 202021.25, 0, 4), "0x4"),
        (struct.pack("<fii", 202021.25, -1, 4), "-1x4"),
        (struct.pack("<fii3f", 202021.25, 2, 1, 0, 0, 0), "4 bytes are missing"),
        (struct.pack("<fii3f", 202021.25, 1, 1, 0, 0, 0), "4 bytes too many"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, data: bytes, problem: str) -> None:
    path = tmp_path / "x.flo"
    path.write_bytes(data)
    with pytest.raises(InputError, match=problem):
        read_flow(path)


def test_missing_file_and_unwritable_place(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_flow(tmp_path / "none.flo")
    with pytest.raises(InputError, match="cannot be written"):
        write_flow(tmp_path / "none" / "x.flo", np.zeros((1, 1, 2), np.float32))
    with pytest.raises(InputError, match=r"\(4, 5\)"):
        write_flow(tmp_path / "x.flo", np.zeros((4, 5), np.float32))
