from __future__ import annotations

import math
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diffusion_perception_ros.conversions import (
    ImageError,
    MetricState,
    amodal_mask_array_fields,
    header_fields,
    header_from_message,
    image_fields,
    image_from_message,
    optical_flow_fields,
    perception_status_fields,
)
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.predictions import AmodalInstance, PerceptionOutput

HEADER = header_fields(12, 345, "camera")
SIZE = (6, 8)
NEXT_STAMP = {"sec": 12, "nanosec": 678}
RNG = np.random.default_rng(3)


def assert_plain(value: Any) -> None:
    """Fails on anything that rclpy would misread: numpy scalars, and arrays that are no flat bytes."""
    if isinstance(value, dict):
        for inner in value.values():
            assert_plain(inner)
    elif isinstance(value, list):
        for inner in value:
            assert_plain(inner)
    elif isinstance(value, np.ndarray):
        assert value.dtype == np.uint8
        assert value.ndim == 1
        assert value.flags.c_contiguous
    else:
        assert type(value) in (int, float, bool, str)


def pixels(fields: dict[str, Any], dtype: Any, channels: int = 1) -> NDArray[Any]:
    assert fields["step"] == fields["width"] * channels * np.dtype(dtype).itemsize
    assert len(fields["data"]) == fields["height"] * fields["step"]
    shape = (fields["height"], fields["width"]) + ((channels,) if channels > 1 else ())
    array: NDArray[Any] = fields["data"].view(dtype).reshape(shape)
    return array


def box(x: int, y: int, width: int, height: int) -> dict[str, Any]:
    return {"x_offset": x, "y_offset": y, "height": height, "width": width, "do_rectify": False}


def mask(*region: slice) -> NDArray[np.bool_]:
    result = np.zeros((6, 8), np.bool_)
    result[region] = True
    return result


@pytest.mark.parametrize(
    ("encoding", "channels", "dtype"),
    [
        ("32FC1", 1, "f4"),
        ("32FC2", 2, "f4"),
        ("32FC3", 3, "f4"),
        ("mono8", 1, "u1"),
        ("rgb8", 3, "u1"),
        ("bgr8", 3, "u1"),
    ],
)
def test_image_fields_view_the_array(encoding: str, channels: int, dtype: str) -> None:
    shape = (5, 7, channels) if channels > 1 else (5, 7)
    array = (RNG.random(shape) * 255).astype(dtype)
    fields = image_fields(HEADER, array, encoding)
    assert_plain(fields)
    assert np.shares_memory(fields["data"], array)
    assert (fields["height"], fields["width"], fields["encoding"]) == (5, 7, encoding)
    assert fields["is_bigendian"] == (sys.byteorder == "big")
    np.testing.assert_array_equal(pixels(fields, dtype, channels), array)

    flipped = image_fields(HEADER, array[:, ::-1], encoding)
    np.testing.assert_array_equal(pixels(flipped, dtype, channels), array[:, ::-1])


def test_rgb8_fields_read_back_as_the_same_image() -> None:
    image = RNG.integers(0, 256, (5, 7, 3), np.uint8)
    fields = image_fields(HEADER, image, "rgb8")
    np.testing.assert_array_equal(image_from_message(SimpleNamespace(**fields)), image)


def test_nan_survives() -> None:
    depth = np.array([[0.5, np.nan]], np.float32)
    np.testing.assert_array_equal(pixels(image_fields(HEADER, depth, "32FC1"), np.float32), depth)


@pytest.mark.parametrize(
    ("array", "encoding"),
    [
        (np.zeros((4, 4)), "32FC1"),
        (np.zeros((4, 4), ">f4" if sys.byteorder == "little" else "<f4"), "32FC1"),
        (np.zeros((4, 4, 1), np.float32), "32FC1"),
        (np.zeros((4, 4), np.float32), "32FC2"),
        (np.zeros((4, 4, 4), np.uint8), "rgb8"),
        (np.zeros(4, np.uint8), "mono8"),
        (np.zeros((4, 4), np.bool_), "mono8"),
        (np.zeros((4, 4), np.uint8), "8UC1"),
    ],
)
def test_an_array_that_is_no_such_image_is_refused(array: NDArray[Any], encoding: str) -> None:
    with pytest.raises(InputError, match=encoding):
        image_fields(HEADER, array, encoding)


def test_optical_flow() -> None:
    flow = RNG.normal(size=(6, 8, 2)).astype(np.float32)
    flow[2, 3] = np.nan
    deviation = RNG.random((6, 8)).astype(np.float32)
    limits: Any = np.float32(93.75), np.float32(37.5)
    output = PerceptionOutput(flow=flow, flow_standard_deviation=deviation, max_displacement=limits)
    fields = optical_flow_fields(HEADER, NEXT_STAMP, output)
    assert_plain(fields)
    assert fields["header"] == fields["flow"]["header"] == fields["standard_deviation"]["header"] == HEADER
    assert fields["next_stamp"] == NEXT_STAMP
    assert (fields["flow"]["encoding"], fields["standard_deviation"]["encoding"]) == ("32FC2", "32FC1")
    assert np.shares_memory(fields["flow"]["data"], flow)
    np.testing.assert_array_equal(pixels(fields["flow"], np.float32, 2), flow)
    np.testing.assert_array_equal(pixels(fields["standard_deviation"], np.float32), deviation)
    assert (fields["max_displacement_x"], fields["max_displacement_y"]) == (93.75, 37.5)


def test_optical_flow_without_an_ensemble() -> None:
    fields = optical_flow_fields(HEADER, NEXT_STAMP, PerceptionOutput(flow=np.zeros((6, 8, 2), np.float32)))
    assert_plain(fields)
    none = fields["standard_deviation"]
    assert (none["height"], none["width"], none["step"], len(none["data"])) == (0, 0, 0, 0)
    assert none["encoding"] == "32FC1"
    assert math.isnan(fields["max_displacement_x"])
    assert math.isnan(fields["max_displacement_y"])


def test_amodal_mask() -> None:
    visible, whole = mask(slice(1, 3), slice(2, 5)), mask(slice(1, 5), slice(2, 5))
    appearance = RNG.integers(0, 256, (6, 8, 3), np.uint8)
    agreement: Any = np.float32(0.75)
    instance = AmodalInstance(7, visible, whole, appearance, agreement)
    output = PerceptionOutput(amodal=[instance])
    fields = amodal_mask_array_fields(HEADER, output, SIZE, omitted=2, with_appearance=True)
    assert_plain(fields)
    assert (fields["header"], fields["height"], fields["width"], fields["omitted"]) == (HEADER, 6, 8, 2)
    (one,) = fields["masks"]
    assert one["id"] == 7
    assert one["visible_box"] == box(2, 1, 3, 2)
    assert one["amodal_box"] == box(2, 1, 3, 4)
    assert one["mask"]["encoding"] == "mono8"
    np.testing.assert_array_equal(pixels(one["mask"], np.uint8), np.full((4, 3), 255))
    assert (one["visible_area"], one["amodal_area"]) == (6, 12)
    assert (one["occluded_fraction"], one["agreement"]) == (0.5, 0.75)
    assert one["touches_border"] is False
    assert one["appearance"]["encoding"] == "rgb8"
    np.testing.assert_array_equal(pixels(one["appearance"], np.uint8, 3), appearance[1:5, 2:5])

    (without,) = amodal_mask_array_fields(HEADER, output, SIZE)["masks"]
    assert (without["appearance"]["height"], len(without["appearance"]["data"])) == (0, 0)


def test_an_amodal_mask_with_a_hole_is_0_there() -> None:
    whole = mask(slice(1, 4), slice(1, 4))
    whole[2, 2] = False
    (one,) = amodal_mask_array_fields(HEADER, PerceptionOutput(amodal=[AmodalInstance(1, whole, whole)]), SIZE)["masks"]
    expected = [[255, 255, 255], [255, 0, 255], [255, 255, 255]]
    np.testing.assert_array_equal(pixels(one["mask"], np.uint8), expected)
    assert one["occluded_fraction"] == 0.0
    assert math.isnan(one["agreement"])


@pytest.mark.parametrize(
    "region", [(slice(0, 2), 3), (slice(4, 6), 3), (3, slice(0, 2)), (3, slice(6, 8)), (slice(6), slice(8))]
)
def test_touching_each_border(region: Any) -> None:
    whole = mask(*region)
    (one,) = amodal_mask_array_fields(HEADER, PerceptionOutput(amodal=[AmodalInstance(1, whole, whole)]), SIZE)["masks"]
    assert one["touches_border"] is True


def test_an_instance_without_any_pixel_has_empty_boxes() -> None:
    nothing = np.zeros((6, 8), np.bool_)
    white = np.full((6, 8, 3), 255, np.uint8)
    output = PerceptionOutput(amodal=[AmodalInstance(1, nothing, nothing, white)])
    (one,) = amodal_mask_array_fields(HEADER, output, SIZE, with_appearance=True)["masks"]
    assert_plain(one)
    assert one["visible_box"] == one["amodal_box"] == box(0, 0, 0, 0)
    assert (one["visible_area"], one["amodal_area"], one["touches_border"]) == (0, 0, False)
    assert math.isnan(one["occluded_fraction"])
    assert len(one["mask"]["data"]) == len(one["appearance"]["data"]) == 0


def test_no_instances_and_no_prediction() -> None:
    fields = amodal_mask_array_fields(HEADER, PerceptionOutput(amodal=[]), SIZE)
    assert (fields["height"], fields["width"], fields["masks"]) == (6, 8, [])
    with pytest.raises(InputError, match="amodal"):
        amodal_mask_array_fields(HEADER, PerceptionOutput(), SIZE)
    with pytest.raises(InputError, match="flow"):
        optical_flow_fields(HEADER, NEXT_STAMP, PerceptionOutput())


def stamped(sec: Any, nanosec: Any, frame_id: Any) -> Any:
    header = SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id=frame_id)
    return SimpleNamespace(header=header)


def test_the_header_is_copied_as_it_is() -> None:
    fields = header_from_message(stamped(np.int32(-3), np.uint32(999_999_999), "camera/link"))
    assert fields == {"stamp": {"sec": -3, "nanosec": 999_999_999}, "frame_id": "camera/link"}
    assert_plain(fields)


@pytest.mark.parametrize(
    "message",
    [
        SimpleNamespace(),
        SimpleNamespace(header=None),
        SimpleNamespace(header=SimpleNamespace(stamp=SimpleNamespace(sec=1), frame_id="")),
        stamped(1.5, 0, ""),
        stamped(1, -1, ""),
        stamped(1 << 31, 0, ""),
        stamped(1, 10**9, ""),
        stamped(1, 1, None),
    ],
)
def test_a_message_without_a_usable_header_is_refused(message: Any) -> None:
    with pytest.raises(ImageError) as caught:
        header_from_message(message)
    assert caught.value.reason == "malformed_message"


def test_status_has_every_field_and_knows_what_it_was_given() -> None:
    fields = perception_status_fields(
        HEADER,
        pair_stamp=NEXT_STAMP,
        tasks=("depth", "flow"),
        num_inference_steps=np.array([1, 4], np.uint16),
        total_ms=np.float32(12.5),
        frames_received=np.uint64(9),
        warm_started=np.bool_(True),
        metric_state=MetricState.STALE,
    )
    assert_plain(fields)
    assert fields["header"] == HEADER
    assert fields["pair_stamp"] == NEXT_STAMP
    assert (fields["tasks"], fields["num_inference_steps"]) == (["depth", "flow"], [1, 4])
    assert (fields["total_ms"], fields["frames_received"], fields["warm_started"]) == (12.5, 9, True)
    assert fields["metric_state"] == 3
    assert (fields["ensemble_size"], fields["device_memory"], fields["degraded_reason"]) == (1, 0, "")
    assert (fields["drop_reasons"], fields["drop_counts"]) == ([], [])
    assert all(math.isnan(fields[name]) for name in ("budget_ms", "input_age_ms", "depth_scale", "reference_age"))


def test_statuses_share_no_state() -> None:
    first = perception_status_fields(HEADER)
    first["pair_stamp"]["sec"] = 5
    first["tasks"].append("depth")
    second = perception_status_fields(HEADER)
    assert second["pair_stamp"]["sec"] == 0
    assert second["tasks"] == []


def test_status_refuses_a_field_that_the_message_lacks() -> None:
    with pytest.raises(TypeError, match="latency_ms"):
        perception_status_fields(HEADER, latency_ms=3.0)
