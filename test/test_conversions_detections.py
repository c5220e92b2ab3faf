from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion_perception_ros.conversions import (
    ImageError,
    detections_from_vision_message,
    detections_from_yolo_message,
    image_size_from_camera_info,
    label_image,
)

SIZE = (40, 60)
ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)
NEAR = st.floats(-30, 90)


def center(x: float, y: float, theta: float = 0.0) -> Any:
    return SimpleNamespace(position=SimpleNamespace(x=x, y=y), theta=theta)


def vision(*boxes: tuple[float, ...], scores: tuple[float, ...] = ()) -> Any:
    """vision_msgs/Detection2DArray of boxes (x, y, width, height[, theta])."""
    detections = [
        SimpleNamespace(
            bbox=SimpleNamespace(center=center(*box[:2], *box[4:]), size_x=box[2], size_y=box[3]),
            results=[SimpleNamespace(hypothesis=SimpleNamespace(score=score)) for score in scores[i : i + 1]],
        )
        for i, box in enumerate(boxes)
    ]
    return SimpleNamespace(detections=detections)


def yolo(*outlines: Any, size: tuple[int, int] = SIZE, box: tuple[float, ...] = (0, 0, 0, 0)) -> Any:
    """yolo_msgs/DetectionArray of outlines, (N, 2) each; empty ones have just the box."""
    detections = [
        SimpleNamespace(
            score=0.5,
            mask=SimpleNamespace(height=size[0], width=size[1], data=[SimpleNamespace(x=x, y=y) for x, y in outline]),
            bbox=SimpleNamespace(center=center(*box[:2], *box[4:]), size=SimpleNamespace(x=box[2], y=box[3])),
        )
        for outline in outlines
    ]
    return SimpleNamespace(detections=detections)


def test_a_box_has_the_pixels_whose_centres_are_in_it() -> None:
    labels = label_image(detections_from_vision_message(vision((20, 10, 8, 4))), SIZE)
    expected = np.zeros(SIZE, np.uint8)
    expected[8:12, 16:24] = 1
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, expected)


@given(x=NEAR, y=NEAR, width=st.floats(0.01, 90), height=st.floats(0.01, 90))
def test_any_box_has_the_pixels_whose_centres_are_in_it(x: float, y: float, width: float, height: float) -> None:
    labels = label_image(detections_from_vision_message(vision((x, y, width, height))), SIZE)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    inside = (columns >= x - width / 2) & (columns < x + width / 2)
    inside &= (rows >= y - height / 2) & (rows < y + height / 2)
    np.testing.assert_array_equal(labels > 0, inside)


def test_theta_turns_a_vision_box_counterclockwise_and_a_yolo_box_clockwise() -> None:
    wide = (30.0, 20.0, 30.0, 4.0, math.radians(30))
    counterclockwise = label_image(detections_from_vision_message(vision(wide)), SIZE)
    clockwise = label_image(detections_from_yolo_message(yolo((), box=wide), SIZE), SIZE)
    # Its right end is up (a smaller row), or down.
    assert counterclockwise[15, 38]
    assert not counterclockwise[24, 38]
    assert clockwise[24, 38]
    np.testing.assert_array_equal(counterclockwise, clockwise[::-1])
    assert np.count_nonzero(counterclockwise) == pytest.approx(120, rel=0.2)


def test_a_quarter_turn_swaps_the_sides() -> None:
    turned = label_image(detections_from_vision_message(vision((30, 20, 20, 6, math.pi / 2))), SIZE)
    upright = label_image(detections_from_vision_message(vision((30, 20, 6, 20))), SIZE)
    assert np.count_nonzero(turned != upright) <= 2 * (20 + 6)  # rounding on the edge


@given(seed=st.integers(0, 2**32 - 1))
def test_the_outline_of_a_mask_gives_the_mask(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros(SIZE, np.uint8)
    points = rng.integers((0, 0), (SIZE[1], SIZE[0]), (6, 2)).astype(np.int32)
    cv2.fillConvexPoly(mask, cv2.convexHull(points), 1)
    (contour,), _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    message = yolo(contour.reshape(-1, 2).astype(float))
    np.testing.assert_array_equal(label_image(detections_from_yolo_message(message, SIZE), SIZE), mask)


@pytest.mark.parametrize("first_wins", [True, False])
def test_where_boxes_overlap_the_higher_score_is_in_front(first_wins: bool) -> None:
    scores = (0.9, 0.3) if first_wins else (0.3, 0.9)
    message = vision((20, 20, 20, 20), (30, 20, 20, 20), scores=scores)
    labels = label_image(detections_from_vision_message(message), SIZE)
    assert (labels[20, 25], labels[20, 12], labels[20, 37]) == (1 if first_wins else 2, 1, 2)


def test_or_the_lower_edge_is_in_front_whatever_the_score() -> None:
    message = vision((20, 20, 20, 20), (30, 25, 20, 20), scores=(0.9, 0.3))
    labels = label_image(detections_from_vision_message(message), SIZE, overlap="lower_edge")
    assert labels[20, 25] == 2


def test_of_equal_scores_the_first_is_in_front() -> None:
    labels = label_image(detections_from_vision_message(vision((20, 20, 9, 9), (20, 20, 9, 9))), SIZE)
    assert set(np.unique(labels)) == {0, 1}


def test_labels_are_the_places_in_the_message_whatever_is_left_out() -> None:
    message = vision((5, 5, 4, 4), (math.nan, 5, 4, 4), (25, 5, 4, 4), (45, 5, 4, 4), scores=(0.9, 0.9, 0.1, 0.9))
    detections = detections_from_vision_message(message)
    assert [detection is None for detection in detections] == [False, True, False, False]
    assert set(np.unique(label_image(detections, SIZE, min_score=0.5))) == {0, 1, 4}


def test_no_detections_are_an_empty_image() -> None:
    labels = label_image(detections_from_vision_message(vision()), SIZE)
    assert labels.shape == SIZE
    assert not labels.any()


@pytest.mark.parametrize(("count", "dtype"), [(255, np.uint8), (256, np.uint16), (65_535, np.uint16)])
def test_more_than_255_detections_need_16_bits(count: int, dtype: Any) -> None:
    boxes = detections_from_vision_message(vision((1.5, 0.5, 1, 1), (0.5, 0.5, 1, 1)))
    labels = label_image([*[boxes[0]] * (count - 1), boxes[1]], (1, 2))
    assert labels.dtype == dtype
    np.testing.assert_array_equal(labels, [[count, 1]])


def test_more_detections_than_labels_are_refused() -> None:
    with pytest.raises(ImageError, match="65536 detections") as caught:
        label_image([None] * 65_536, SIZE)
    assert caught.value.reason == "too_many"


@given(box=st.tuples(ANY_FLOAT, ANY_FLOAT, ANY_FLOAT, ANY_FLOAT, ANY_FLOAT), score=ANY_FLOAT)
def test_no_numbers_break_it(box: tuple[float, ...], score: float) -> None:
    """A second, good box is painted whatever the first one is."""
    message = vision(box, (20, 20, 9, 9), scores=(score, math.inf))
    labels = label_image(detections_from_vision_message(message), SIZE)
    assert labels[20, 20] in (1, 2)
    assert labels.max() <= 2
    message = yolo([box[:2], box[1:3], box[2:4]], [(5.0, 5.0)])
    assert label_image(detections_from_yolo_message(message, SIZE), SIZE).max() <= 2


def test_a_box_reaching_far_beyond_the_image_covers_it() -> None:
    for theta in (0.0, 1e-9):
        message = vision((30, 20, 50_000, 50_000, theta))
        assert label_image(detections_from_vision_message(message), SIZE).all()


@pytest.mark.parametrize(
    "message",
    [
        SimpleNamespace(),
        SimpleNamespace(detections=[SimpleNamespace()]),
        vision(("20", 20, 9, 9)),  # type: ignore[arg-type]
        vision((20, 20, 9, 9), scores=(None,)),  # type: ignore[arg-type]
    ],
)
def test_messages_without_the_fields_are_refused(message: Any) -> None:
    with pytest.raises(ImageError) as caught:
        detections_from_vision_message(message)
    assert caught.value.reason == "malformed_message"


def test_masks_of_another_image_size_are_refused() -> None:
    with pytest.raises(ImageError, match="masks of a 60 x 41 image do not fit one of 60 x 40 pixels") as caught:
        detections_from_yolo_message(yolo([(1, 1)], size=(41, 60)), SIZE)
    assert caught.value.reason == "size_mismatch"


@pytest.mark.parametrize(
    ("binning", "roi", "size"),
    [((0, 0), (0, 0), (480, 640)), ((2, 1), (0, 0), (480, 320)), ((2, 2), (100, 200), (50, 100))],
)
def test_the_image_size_accounts_for_binning_and_region(
    binning: tuple[int, int], roi: tuple[int, int], size: tuple[int, int]
) -> None:
    message = SimpleNamespace(
        height=480,
        width=640,
        binning_x=binning[0],
        binning_y=binning[1],
        roi=SimpleNamespace(height=roi[0], width=roi[1]),
    )
    assert image_size_from_camera_info(message) == size


def test_a_calibration_without_a_size_is_refused() -> None:
    message = SimpleNamespace(height=0, width=0, binning_x=0, binning_y=0, roi=SimpleNamespace(height=0, width=0))
    with pytest.raises(ImageError) as caught:
        image_size_from_camera_info(message)
    assert caught.value.reason == "zero_size"
