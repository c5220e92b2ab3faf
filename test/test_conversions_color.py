from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from diffusion_perception_ros.conversions import amodal_overlay, depth_color, flow_color, normal_color
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.predictions import AmodalInstance

RNG = np.random.default_rng(4)


def saturation_and_hue(bgr: NDArray[np.uint8]) -> tuple[float, float]:
    hue, saturation, _ = colorsys.rgb_to_hsv(*(bgr[::-1] / 255))
    return saturation, 360 * hue


def middlebury(u: float, v: float) -> list[float]:
    """BGR of one vector, a transcription of the reference's makecolorwheel and computeColor."""
    wheel: list[tuple[float, float, float]] = []
    wheel += [(255, 255 * i / 15, 0) for i in range(15)]
    wheel += [(255 - 255 * i / 6, 255, 0) for i in range(6)]
    wheel += [(0, 255, 255 * i / 4) for i in range(4)]
    wheel += [(0, 255 - 255 * i / 11, 255) for i in range(11)]
    wheel += [(255 * i / 13, 0, 255) for i in range(13)]
    wheel += [(255, 0, 255 - 255 * i / 6) for i in range(6)]
    radius = math.hypot(u, v)
    position = (math.atan2(-v, -u) / math.pi + 1) / 2 * (len(wheel) - 1)
    k = int(position)
    fraction = position - k
    rgb = []
    for channel in range(3):
        color = (1 - fraction) * wheel[k][channel] / 255 + fraction * wheel[(k + 1) % len(wheel)][channel] / 255
        color = 1 - radius * (1 - color) if radius <= 1 else 0.75 * color
        rgb.append(255 * color)
    return rgb[::-1]


def test_depth_is_red_near_blue_far_and_black_where_invalid() -> None:
    depth = np.array([[0.0, 1.0, np.nan, -5.0, 7.0]], np.float32)
    near, far, invalid, below, above = depth_color(depth)[0]
    assert near[2] > 2 * near[:2].max()
    assert far[0] > 1.5 * far[1:].max()
    np.testing.assert_array_equal(invalid, 0)
    np.testing.assert_array_equal(below, near)
    np.testing.assert_array_equal(above, far)


def test_a_depth_has_one_color_whatever_else_is_in_the_frame() -> None:
    assert (
        depth_color(np.full((2, 2), 0.4, np.float32))[0, 0] == depth_color(np.array([[0.4, 0.5]], "f4"))[0, 0]
    ).all()


def test_depth_up_to_scale_has_its_median_in_the_middle() -> None:
    linear = depth_color(np.array([[0, 0.2, 0.5, 0.8, 1]], np.float32))[0].astype(int)
    depth = np.array([[0, 0.5, 1, 2, np.inf, np.nan, -1]], np.float32) * np.float32(0.05)
    *colors, invalid, negative = depth_color(depth, 0.05)[0].astype(int)
    assert np.abs(np.array(colors) - linear).max() <= 12
    np.testing.assert_array_equal(invalid, 0)
    np.testing.assert_array_equal(negative, colors[0])


def test_no_valid_depth_is_as_dark_as_invalid_and_neighbours_look_alike() -> None:
    ramp = depth_color(np.linspace(0, 1, 512, dtype=np.float32)[None])[0].astype(int)
    assert ramp.max(axis=1).min() > 100
    assert np.abs(np.diff(ramp, axis=0)).max() <= 12
    assert len(np.unique(ramp, axis=0)) > 200


@given(st.floats(-2, 2, width=32), st.floats(-2, 2, width=32))
def test_flow_has_the_colors_of_the_middlebury_reference(u: float, v: float) -> None:
    radius = math.hypot(u, v)
    if abs(radius - 1) < 0.01:
        return  # where the range ends the color jumps
    color = flow_color(np.array([[[10 * u, 10 * v]]], np.float32), 10.0)[0, 0]
    # The reference's wheel does not close: between its last and its first color lies one step.
    tolerance = 45 if math.atan2(-v, u) % (2 * math.pi) < 0.01 else 8
    assert np.abs(color - np.array(middlebury(u, v))).max() <= tolerance


@pytest.mark.parametrize(
    ("u", "v", "hue"), [(1, 0, 0), (0, 1, 54), (-1, 0, 191), (0, -1, 261), (1, -1, 292), (1, -0.01, 350)]
)
def test_flow_directions(u: float, v: float, hue: float) -> None:
    color = flow_color(np.array([[[u, v]]], np.float32) * np.float32(8 / math.hypot(u, v)), 8.0)[0, 0]
    saturation, found = saturation_and_hue(color)
    assert saturation > 0.98
    assert min(abs(found - hue), 360 - abs(found - hue)) < 3


def test_flow_at_rest_is_white_beyond_the_range_darker_and_not_finite_black() -> None:
    flow = np.array([[[0, 0], [20, 0], [21, 0], [1e18, 0], [np.nan, 1], [1, np.nan], [np.inf, 0]]], np.float32)
    rest, full, beyond, far, *invalid = flow_color(flow, 20.0)[0].tolist()
    assert rest == [255, 255, 255]
    assert full == [0, 0, 255]
    assert beyond == far == [0, 0, 191]
    assert invalid == [[0, 0, 0]] * 3


@pytest.mark.parametrize("max_magnitude", [0.0, -1.0, math.nan])
def test_flow_needs_a_positive_range(max_magnitude: float) -> None:
    with pytest.raises(InputError, match="max_magnitude"):
        flow_color(np.zeros((2, 2, 2), np.float32), max_magnitude)


def disk(x: int, y: int, radius: int) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:120, :160]
    inside: NDArray[np.bool_] = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
    return inside


def half_hidden(id: int) -> AmodalInstance:
    whole = disk(80, 60, 40)
    return AmodalInstance(id, whole & (np.arange(160) < 80), whole)


def test_overlay_tints_the_hidden_part_more_and_leaves_the_rest() -> None:
    image = np.full((120, 160, 3), (90, 120, 150), np.uint8)
    original = image.copy()
    overlay = amodal_overlay(image, [half_hidden(3)])
    np.testing.assert_array_equal(image, original)
    np.testing.assert_array_equal(overlay[5, 5], [150, 120, 90])
    change = np.abs(overlay.astype(int) - image[..., ::-1]).sum(axis=2)
    assert change[60, 100] > 1.5 * change[60, 60] > 20
    outline = change[60, 41]  # full colour
    assert outline > 1.2 * change[60, 100]
    assert change[~disk(80, 60, 43)].max() == 0


def test_overlay_reads_any_memory_layout() -> None:
    image = RNG.integers(0, 256, (120, 160, 3), np.uint8)
    reversed_view = np.ascontiguousarray(image[..., ::-1])[..., ::-1]
    padded = np.zeros((120, 200, 3), np.uint8)[:, :160]
    padded[:] = image
    expected = amodal_overlay(image, [half_hidden(1)])
    for other in (reversed_view, padded):
        np.testing.assert_array_equal(amodal_overlay(other, [half_hidden(1)]), expected)


def test_overlay_colors_are_stable_and_distinct() -> None:
    image = np.full((120, 160, 3), 128, np.uint8)
    hues = []
    for id in range(1, 9):
        alone = amodal_overlay(image, [half_hidden(id)])
        empty = np.zeros((120, 160), np.bool_)
        together = amodal_overlay(image, [AmodalInstance(99, empty, empty), half_hidden(id)])
        np.testing.assert_array_equal(alone, together)
        hues.append(saturation_and_hue(alone[60, 100])[1])
    gaps = np.diff(np.sort([*hues, min(hues) + 360]))
    assert gaps.min() > 15


def test_outlines_of_overlapping_instances_lie_above_the_fills() -> None:
    image = np.full((120, 160, 3), 128, np.uint8)
    first, second = (AmodalInstance(k, disk(x, 60, 30), disk(x, 60, 30)) for k, x in ((1, 60), (2, 85)))
    alone = amodal_overlay(image, [first])
    both = amodal_overlay(image, [first, second])
    # The rim of the first lies within the second; the line is antialiased against what is below it.
    assert np.abs(both[60, 89].astype(int) - alone[60, 89]).max() <= 8
    assert np.abs(both[60, 89].astype(int) - both[60, 95]).max() > 50


def test_normals_have_the_usual_colours() -> None:
    """Towards the camera blue, up green, to the right red; what is unknown, or no surface, is black."""
    normals = np.array([[(0, 0, -1), (0, -1, 0), (1, 0, 0)], [(0, 0, 0), (np.nan,) * 3, (0, 1, 0)]], np.float32)
    color = normal_color(normals)
    assert color.dtype == np.uint8
    assert color[0].tolist() == [[255, 128, 128], [128, 255, 128], [128, 128, 255]]
    assert color[1].tolist() == [[0, 0, 0], [0, 0, 0], [128, 0, 128]]
