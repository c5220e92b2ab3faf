"""A detector's boxes and outlines -> a label image of visible pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions.errors import ImageError
from diffusion_perception_ros.conversions.pixels import MAX_SIDE, read_field, read_integer

MAX_LABEL = 0xFFFF

# Vertices are rounded to 1/16 pixel. Those farther out than any image are no measurement, and must not overflow.
_SHIFT = 4
_FARTHEST = 4 * MAX_SIDE


@dataclass(frozen=True, eq=False)
class Detection:
    """One detected object.

    Attributes:
        outline: (N, 2) float64, x to the right and y down in pixels; (0, 0) is the centre of the first pixel. Pixels
            that the outline crosses belong to the object.
        score: Confidence; detectors use [0, 1].
    """

    outline: NDArray[np.float64]
    score: float


# Of two detections that overlap, the one with the larger value is in front.
_IN_FRONT: Mapping[str, Callable[[Detection], float]] = {
    "score": lambda detection: detection.score,
    "lower_edge": lambda detection: float(detection.outline[:, 1].max()),
}
OVERLAP_RULES = tuple(_IN_FRONT)


def detections_from_vision_message(message: Any) -> list[Detection | None]:
    """Reads vision_msgs/Detection2DArray.

    Args:
        message: Any object with its fields, as of vision_msgs 4 (ROS 2 Humble and later).

    Returns:
        For each detection its box, rotated if it has a ``theta``, with the score of its best hypothesis (0 if it has
        none); None where the box is empty or not a number.

    Raises:
        ImageError: With reason ``malformed_message``, if a field is missing or of the wrong type.
    """
    detections = []
    for item in read_field(message, "detections"):
        box = read_field(item, "bbox")
        hypotheses = [read_field(result, "hypothesis") for result in read_field(item, "results")]
        score = max((_read_number(hypothesis, "score") for hypothesis in hypotheses), default=0.0)
        outline = _box_outline(
            read_field(box, "center"),
            _read_number(box, "size_x"),
            _read_number(box, "size_y"),
            # Counterclockwise as seen in the image, whose y points down.
            turn=-1,
        )
        detections.append(_detection(outline, score))
    return detections


def detections_from_yolo_message(message: Any, size: tuple[int, int]) -> list[Detection | None]:
    """Reads yolo_msgs/DetectionArray (of yolo_ros).

    Args:
        message: Any object with its fields.
        size: (height, width) of the image, in pixels.

    Returns:
        For each detection the outline of its mask, or its box where the network gives no masks; None where that is
        empty or not a number.

    Raises:
        ImageError: With reason ``malformed_message``, if a field is missing or of the wrong type, or ``size_mismatch``,
            if the masks are of an image of another size.
    """
    detections = []
    for item in read_field(message, "detections"):
        mask, box = read_field(item, "mask"), read_field(item, "bbox")
        points = [(_read_number(point, "x"), _read_number(point, "y")) for point in read_field(mask, "data")]
        if points:
            mask_size = read_integer(mask, "height"), read_integer(mask, "width")
            if mask_size != size:
                raise ImageError(
                    "size_mismatch",
                    f"masks of a {mask_size[1]} x {mask_size[0]} image do not fit one of {size[1]} x {size[0]} pixels",
                )
            outline = np.array(points, np.float64)
        else:
            extent = read_field(box, "size")
            # Clockwise, as Ultralytics has it.
            outline = _box_outline(read_field(box, "center"), _read_number(extent, "x"), _read_number(extent, "y"), 1)
        detections.append(_detection(outline, _read_number(item, "score")))
    return detections


def label_image(
    detections: Sequence[Detection | None], size: tuple[int, int], *, min_score: float = 0.0, overlap: str = "score"
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Paints detections into one image.

    Args:
        detections: Those that are None keep their number and are not painted.
        size: (height, width) of the image, in pixels.
        min_score: Detections below are not painted.
        overlap: Where detections overlap, the pixel goes to the one with the higher ``score``, or to the one whose
            ``lower_edge`` is farther down, which is the nearer one where objects stand on the same floor. Of equal
            ones it goes to the first.

    Returns:
        (H, W): 0 is background, k the visible pixels of ``detections[k - 1]``. uint8 if there are at most 255
        detections, else uint16.

    Raises:
        ImageError: With reason ``too_many``, if there are more detections than labels.
    """
    if len(detections) > MAX_LABEL:
        raise ImageError("too_many", f"there are {len(detections)} detections; a label image holds {MAX_LABEL}")
    labels = np.zeros(size, np.uint8 if len(detections) < 256 else np.uint16)
    in_front = _IN_FRONT[overlap]
    painted = [(k, each) for k, each in enumerate(detections, 1) if each is not None and each.score >= min_score]
    for k, detection in sorted(painted, key=lambda pair: (in_front(pair[1]), -pair[0])):
        vertices = np.rint(detection.outline * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(labels, [vertices], k, shift=_SHIFT)
    return labels


def _detection(outline: NDArray[np.float64], score: float) -> Detection | None:
    usable = len(outline) > 0 and bool((np.abs(outline) <= _FARTHEST).all()) and not math.isnan(score)
    return Detection(outline, score) if usable else None


def _box_outline(center: Any, width: float, height: float, turn: int) -> NDArray[np.float64]:
    """The outline of a box; empty if there is no pixel in it. Positive ``turn`` takes ``theta`` from x to y."""
    position = read_field(center, "position")
    x, y, angle = _read_number(position, "x"), _read_number(position, "y"), turn * _read_number(center, "theta")
    near = all(abs(value) <= _FARTHEST for value in (x, y, width, height))
    if not near or not math.isfinite(angle) or width <= 0 or height <= 0:
        return np.zeros((0, 2))
    if angle == 0:
        # The pixels whose centres are inside. Boxes count from the edge of the first pixel, so its centre is at 0.5.
        (left, top), (right, bottom) = (
            np.ceil([x - width / 2 - 0.5, y - height / 2 - 0.5]),
            np.ceil([x + width / 2 - 0.5, y + height / 2 - 0.5]) - 1,
        )
        if left > right or top > bottom:
            return np.zeros((0, 2))
        return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    # Half a pixel smaller, since the pixels on the outline belong to the object.
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * np.maximum(np.array([width, height]) - 1, 0) / 2
    cos, sin = math.cos(angle), math.sin(angle)
    outline: NDArray[np.float64] = corners @ np.array([(cos, sin), (-sin, cos)]) + (x - 0.5, y - 0.5)
    return outline


def _read_number(message: Any, name: str) -> float:
    """A number field of a message as a Python float."""
    value = read_field(message, name)
    if not isinstance(value, Real):
        raise ImageError("malformed_message", f"field {name!r} is of type {type(value).__name__}, not a number")
    return float(value)
