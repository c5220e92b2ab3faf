from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from diffusion_perception_ros.conversions import (
    MetricState,
    amodal_mask_array_fields,
    header_fields,
    optical_flow_fields,
    perception_status_fields,
)
from diffusion_perception_ros.predictions import AmodalInstance, PerceptionOutput

FOLDER = Path(__file__).resolve().parent.parent / "msg"
PACKAGE = "diffusion_perception_ros/msg"
HEADER = header_fields(1_700_000_000, 123_456_789, "camera_optical_frame")


@pytest.fixture(scope="module")
def store() -> Typestore:
    types = {}
    for file in FOLDER.glob("*.msg"):
        types.update(get_types_from_msg(file.read_text(), f"{PACKAGE}/{file.stem}"))
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(types)
    return store


def bind(store: Typestore, name: str, fields: dict[str, Any]) -> Any:
    """The message object of a field dict, which must have exactly the fields of the definition, in its order."""

    def value(description: Any, content: Any) -> Any:
        kind, details = description
        if kind == Nodetype.NAME:
            return bind(store, details, content)
        if kind == Nodetype.SEQUENCE:
            element_kind, element = details[0]
            if element_kind == Nodetype.NAME:
                return [bind(store, element, inner) for inner in content]
            if element[0] == "string":
                return content
            return np.asarray(content, element[0])
        return content

    definition = dict(store.fielddefs[name][1])
    assert list(fields) == list(definition)
    return store.types[name](**{key: value(definition[key], content) for key, content in fields.items()})


def round_trip(store: Typestore, name: str, fields: dict[str, Any]) -> Any:
    name = f"{PACKAGE}/{name}"
    return store.deserialize_cdr(bytes(store.serialize_cdr(bind(store, name, fields), name)), name)


def test_there_are_four_definitions() -> None:
    assert sorted(file.stem for file in FOLDER.iterdir()) == [
        "AmodalMask",
        "AmodalMaskArray",
        "OpticalFlow",
        "PerceptionStatus",
    ]


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.msg")), ids=lambda file: file.stem)
def test_every_line_is_a_plain_ascii_comment_field_or_constant(file: Path) -> None:
    text = file.read_bytes().decode("ascii")
    field = re.compile(r"([a-z_]+/)?[A-Za-z0-9]+(\[\])? ([a-z][a-z0-9_]*|[A-Z][A-Z_]*=\d+)")
    for line in text.splitlines():
        assert not line or line.startswith("# ") or field.fullmatch(line), line
    assert text.startswith("# ")


def test_the_metric_states_are_those_of_the_definition(store: Typestore) -> None:
    constants = {name: value for name, _, value in store.fielddefs[f"{PACKAGE}/PerceptionStatus"][0]}
    assert constants == {f"METRIC_{state.name}": state.value for state in MetricState}


def test_optical_flow_survives_serialisation(store: Typestore) -> None:
    flow = np.random.default_rng(0).normal(size=(5, 7, 2)).astype(np.float32)
    flow[1, 2] = np.nan
    output = PerceptionOutput(flow=flow, max_displacement=(93.75, 37.5))
    message = round_trip(store, "OpticalFlow", optical_flow_fields(HEADER, {"sec": 5, "nanosec": 6}, output))
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (1_700_000_000, 123_456_789)
    assert message.header.frame_id == message.flow.header.frame_id == "camera_optical_frame"
    assert (message.next_stamp.sec, message.next_stamp.nanosec) == (5, 6)
    np.testing.assert_array_equal(message.flow.data.view(np.float32).reshape(5, 7, 2), flow)
    assert message.standard_deviation.data.size == 0
    assert (message.max_displacement_x, message.max_displacement_y) == (93.75, 37.5)


def test_amodal_masks_survive_serialisation(store: Typestore) -> None:
    whole = np.zeros((6, 8), np.bool_)
    whole[2:5, 3:8] = True
    visible = whole & (np.arange(8) < 5)
    appearance = np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)
    empty = np.zeros((6, 8), np.bool_)
    instances = [AmodalInstance(2, visible, whole, appearance, 0.5), AmodalInstance(65_535, empty, empty)]
    fields = amodal_mask_array_fields(HEADER, PerceptionOutput(amodal=instances), (6, 8), 1, with_appearance=True)
    message = round_trip(store, "AmodalMaskArray", fields)
    assert (message.height, message.width, message.omitted) == (6, 8, 1)
    first, second = message.masks
    assert (first.id, first.visible_area, first.amodal_area, first.agreement) == (2, 6, 15, 0.5)
    assert first.occluded_fraction == pytest.approx(0.6)
    assert first.touches_border is True
    roi = first.amodal_box
    assert (roi.x_offset, roi.y_offset, roi.width, roi.height, roi.do_rectify) == (3, 2, 5, 3, False)
    np.testing.assert_array_equal(first.mask.data, np.full(15, 255))
    np.testing.assert_array_equal(first.appearance.data.reshape(3, 5, 3), appearance[2:5, 3:])
    assert (second.id, second.mask.data.size, second.amodal_box.width) == (65_535, 0, 0)
    assert math.isnan(second.occluded_fraction)


def test_status_survives_serialisation(store: Typestore) -> None:
    known: dict[str, Any] = {
        "checkpoint": "embedded",
        "tasks": ["depth", "flow"],
        "num_inference_steps": [1, 4],
        "ensemble_size": 5,
        "total_ms": 12.5,
        "frames_received": 1 << 40,
        "drop_reasons": ["too_late"],
        "drop_counts": [1 << 33],
        "metric_state": MetricState.POOR_FIT,
        "warm_started": True,
    }
    message = round_trip(store, "PerceptionStatus", perception_status_fields(HEADER, **known))
    for name, value in known.items():
        found = getattr(message, name)
        assert (found.tolist() if isinstance(found, np.ndarray) else found) == value
    assert math.isnan(message.budget_ms)
    round_trip(store, "PerceptionStatus", perception_status_fields(HEADER))
