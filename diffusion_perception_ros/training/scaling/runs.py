"""What a run logged, as points of compute and quality."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.training.log import read_rows

# A run's first steps are about its initial weights and the rising learning rate.
WARM_UP = 0.1
# Losses are noisy, and on a logarithmic axis most rows are at the end: the rows of a bin are one point.
BINS_PER_DECADE = 10


@dataclass(frozen=True)
class Point:
    """A run at some time.

    Attributes:
        run: Its name.
        step: Steps taken.
        flops: Spent on them.
        value: Of a loss or an error.
    """

    run: str
    step: int
    flops: float
    value: float


def read_columns(path: Path) -> list[str]:
    """Names of the columns of a log; none if there is no log."""
    rows = read_rows(path)
    return list(rows[-1]) if rows else []


def read_curve(path: Path, run: str, column: str, *, rises: bool = False, gaps: bool = False) -> list[Point]:
    """One column of a log against compute, without the warm-up, averaged in bins of compute.

    Args:
        path: The log.
        run: Name for the points.
        column: One that the log has.
        rises: The best value is 1, and the points have what is missing to it.
        gaps: Values that are not a number are left out, as metrics are where there was nothing to judge.

    Raises:
        InputError: A cell is no number, or has no logarithm.
    """
    blanks = {"", "nan"} if gaps else {""}
    rows = [row for row in read_rows(path) if row["flops"] and row[column] not in blanks]
    points = [_point(path, run, row, column, rises) for row in rows]
    points = [point for point in points if point.step > WARM_UP * points[-1].step]
    bins = groupby(points, lambda point: round(BINS_PER_DECADE * math.log10(point.flops)))
    return [_mean(list(members)) for _, members in bins]


def _point(path: Path, run: str, row: Mapping[str, str], column: str, rises: bool) -> Point:
    try:
        step, flops, value = int(row["step"]), float(row["flops"]), float(row[column])
    except ValueError:
        raise InputError(f"{path}: a row has no number for step, flops or {column}; mend or remove it.") from None
    value = 1 - value if rises else value
    for name, number in (("flops", flops), (f"1 - {column}" if rises else column, value)):
        if not (math.isfinite(number) and number > 0):
            raise InputError(
                f"{path}: {name} is {number:g} at step {step}, but power laws are about numbers above 0; "
                "leave that run out."
            )
    return Point(run, step, flops, value)


def _mean(points: list[Point]) -> Point:
    flops = math.exp(sum(math.log(point.flops) for point in points) / len(points))
    return Point(points[-1].run, points[-1].step, flops, sum(point.value for point in points) / len(points))
