"""Labels in a plot that cover neither each other nor anything else."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

# Points (1/72 inch) between a point and the nearest edge of its label; from the second on a line leads there.
_DISTANCES = (6, 14, 24, 36, 50, 66)
_DIRECTIONS = ((0, 1), (1, 1), (-1, 1), (1, 0), (-1, 0))
_SIZE = 8
_PADDING = 1.5


def place_labels(
    axes: Axes,
    labels: Sequence[tuple[str, float, float]],
    markers: Sequence[tuple[float, float]],
    lines: Sequence[Sequence[tuple[float, float]]],
    marker_size: float,
    above: bool,
    color: str,
) -> None:
    """Write each label as near to its point as there is room; one that has none anywhere is left out.

    Args:
        axes: Complete but for the labels, its layout computed.
        labels: Text, x and y in data coordinates, the most important first. Equal labels of points that are one to the
            eye are written once.
        markers: x and y of everything that is drawn there.
        lines: x and y of the corners of each line, which runs level or upright between them.
        marker_size: Diameter in points.
        above: Whether labels are rather above than below their points.
        color: Of the text.
    """
    unit = axes.figure.dpi / 72
    to_pixels = axes.transData.transform
    radius = marker_size / 2 * unit
    taken = [_around(point, radius) for point in to_pixels(markers)]
    taken += [_between(*ends) for line in lines for ends in pairwise(to_pixels(line))]
    written: list[tuple[str, NDArray[Any]]] = []
    for text, x, y in labels:
        point = to_pixels((x, y))
        if any(text == other and np.abs(point - place).max() < 2 * radius for other, place in written):
            continue
        written.append((text, point))
        size = _measure(axes, text)
        for distance, (right, up) in product(_DISTANCES, _DIRECTIONS if above else _mirrored(_DIRECTIONS)):
            offset = np.array([right, up]) * (distance * unit + size / 2)
            box = _around(point + offset, *(size / 2 + _PADDING * unit))
            if _is_free(box, taken, axes.bbox):
                taken.append(box)
                _write(axes, text, (x, y), offset / unit, color, leads=distance > _DISTANCES[0])
                break


def _write(axes: Axes, text: str, point: tuple[float, float], offset: NDArray[Any], color: str, leads: bool) -> None:
    annotation = axes.annotate(
        text,
        point,
        xytext=(float(offset[0]), float(offset[1])),
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=_SIZE,
        color=color,
        arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3} if leads else None,
    )
    annotation.set_in_layout(False)


def _measure(axes: Axes, text: str) -> NDArray[Any]:
    """Width and height in pixels."""
    probe = axes.text(0, 0, text, fontsize=_SIZE)
    box = probe.get_window_extent()
    probe.remove()
    return np.array([box.width, box.height])


def _is_free(box: Bbox, taken: Sequence[Bbox], inside: Bbox) -> bool:
    fits = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
    return fits and not any(box.overlaps(other) for other in taken)


def _around(center: NDArray[Any], width: float, height: float | None = None) -> Bbox:
    """The box of that half width and half height, or of a square."""
    from matplotlib.transforms import Bbox  # noqa: PLC0415

    half = np.array([width, width if height is None else height])
    return Bbox([center - half, center + half])


def _between(start: NDArray[Any], end: NDArray[Any]) -> Bbox:
    from matplotlib.transforms import Bbox  # noqa: PLC0415

    return Bbox([np.minimum(start, end), np.maximum(start, end)])


def _mirrored(directions: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Down for up."""
    return [(right, -up) for right, up in directions]
