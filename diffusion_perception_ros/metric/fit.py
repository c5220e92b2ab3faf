"""The scale and shift that carry relative depth over to a metric reference, whatever share of it is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.errors import InputError

_MAX_POINTS = 4096
_HYPOTHESES = 256
_SCORED_POINTS = 1024
_REFINEMENTS = 10
_GENEROUS = 3
_BIWEIGHT = 4.685  # Tukey's constant: 95 % efficient for normal errors
_MIN_DEVIATION = 1e-3  # of the relative error, so that a perfect fit does not divide by zero
# Relative depth in [0, 1] that varies less than this over the reference says nothing about the scale.
_MIN_SPREAD = 0.01

Floats = NDArray[np.floating[Any]]


class DepthSpace(Enum):
    """How a checkpoint's relative depth r in [0, 1] (larger is farther) relates to metres Z, with scale > 0."""

    AFFINE = "Z = scale r + shift"
    SCALE = "Z = scale r"
    INVERSE = "1 / Z = scale (1 - r) + shift"

    @classmethod
    def of_encoding(cls, kind: str) -> DepthSpace:
        """The form that a checkpoint's encoding of depth stands for.

        Raises:
            InputError: It is not known what the encoding has to do with metres.
        """
        spaces = {"affine": cls.AFFINE, "log": cls.SCALE, "log_metric": cls.SCALE, "inverse": cls.INVERSE}
        if kind not in spaces:
            raise InputError(
                f"depth in the encoding {kind!r} cannot be anchored to metres; set depth.scale_source to none."
            )
        return spaces[kind]


@dataclass(frozen=True)
class DepthFit:
    """A relation between relative depth and metres.

    Attributes:
        space: Its form.
        scale: See ``DepthSpace``.
        shift: Likewise; 0 for ``DepthSpace.SCALE``.
        inlier_ratio: Share of the reference's points that it explains, in [0, 1].
        nearest: Metres of the nearest of these points.
        farthest: Metres of the farthest.
    """

    space: DepthSpace
    scale: float
    shift: float
    inlier_ratio: float
    nearest: float
    farthest: float

    def metres(self, relative: Floats) -> NDArray[np.float32]:
        """Metres along Z; not finite or not positive where the relation has no answer."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            linear = self.scale * _regressor(np.asarray(relative, np.float64), self.space) + self.shift
            if self.space is DepthSpace.INVERSE:
                linear = np.where(linear > 0, 1 / linear, np.nan)
            return np.asarray(linear, np.float32)


def fit_depth(
    relative: Floats, reference: Floats, space: DepthSpace, min_points: int, tolerance: float
) -> DepthFit | None:
    """Fit relative depth to a sparse or dense reference.

    Hypotheses from pairs of points with the score of MSAC (Torr and Zisserman 2000), then iteratively reweighted least
    squares of the relative error with Tukey's biweight over the points that agree. Deterministic.

    Args:
        relative: (H, W) in [0, 1]; values of 0 and 1 are taken for clipped and not used.
        reference: (H, W) metres; 0, negative, NaN and infinite values are unknown.
        space: The form of the relation.
        min_points: Fewer known points are too few.
        tolerance: A point agrees if metres and reference differ by at most this share of the reference.

    Returns:
        The fit that most points agree with; None with too few points, or where they lie so that any scale would do, or
        where the best scale is not positive.
    """
    usable = np.isfinite(reference) & (reference > 0) & np.isfinite(relative) & (relative > 0) & (relative < 1)
    r, z = np.asarray(relative[usable], np.float64), np.asarray(reference[usable], np.float64)
    if len(z) < max(min_points, 2):
        return None
    random = np.random.default_rng(0)
    if len(z) > _MAX_POINTS:
        chosen = random.choice(len(z), _MAX_POINTS, replace=False)
        r, z = r[chosen], z[chosen]
    x, y = _regressor(r, space), 1 / z if space is DepthSpace.INVERSE else z
    best = _best_hypothesis(x, y, z, space, tolerance, random)
    if best is None:
        return None
    scale, shift = _refine(best, x, y, z, space, tolerance)
    inliers = np.abs(_relative_error(scale, shift, x, z, space)) <= tolerance
    if scale <= 0 or inliers.sum() < 2 or (space is not DepthSpace.SCALE and np.ptp(x[inliers]) < _MIN_SPREAD):
        return None
    trusted = z[inliers]
    return DepthFit(
        space, float(scale), float(shift), float(inliers.mean()), float(trusted.min()), float(trusted.max())
    )


def inlier_ratio(fit: DepthFit, relative: Floats, reference: Floats, tolerance: float) -> float:
    """Share of the reference's usable points that a fit explains, in [0, 1]; 0 where there are none."""
    usable = np.isfinite(reference) & (reference > 0) & np.isfinite(relative) & (relative > 0) & (relative < 1)
    if not usable.any():
        return 0.0
    z = np.asarray(reference[usable], np.float64)
    error = np.abs(fit.metres(relative[usable]) - z)
    return float((error <= tolerance * z).mean())


def _regressor(relative: Floats, space: DepthSpace) -> Floats:
    return 1 - relative if space is DepthSpace.INVERSE else relative


def _relative_error(scale: Any, shift: Any, x: Floats, z: Floats, space: DepthSpace) -> Floats:
    """Of metres; infinite where there are none. ``scale`` and ``shift`` may be columns of hypotheses."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        value = scale * x + shift
        metres = np.where(value > 0, 1 / value, np.inf) if space is DepthSpace.INVERSE else value
        return np.asarray((metres - z) / z)


def _best_hypothesis(
    x: Floats, y: Floats, z: Floats, space: DepthSpace, tolerance: float, random: np.random.Generator
) -> tuple[float, float] | None:
    first, second = random.integers(0, len(x), (2, _HYPOTHESES))
    if space is DepthSpace.SCALE:
        scales, shifts = y[first] / x[first], np.zeros(_HYPOTHESES)
    else:
        distance = x[second] - x[first]
        apart = np.abs(distance) >= _MIN_SPREAD
        if not apart.any():
            return None
        first, second, distance = first[apart], second[apart], distance[apart]
        scales = (y[second] - y[first]) / distance
        shifts = y[first] - scales * x[first]
    positive = scales > 0
    if not positive.any():
        return None
    scales, shifts = scales[positive], shifts[positive]
    scored = random.choice(len(x), min(len(x), _SCORED_POINTS), replace=False)
    error = np.abs(_relative_error(scales[:, None], shifts[:, None], x[scored], z[scored], space))
    best = int(np.square(np.minimum(error, tolerance)).sum(axis=1).argmin())
    return float(scales[best]), float(shifts[best])


def _refine(
    best: tuple[float, float], x: Floats, y: Floats, z: Floats, space: DepthSpace, tolerance: float
) -> tuple[float, float]:
    scale, shift = best
    for i in range(_REFINEMENTS):
        error = np.abs(_relative_error(scale, shift, x, z, space))
        near = error <= tolerance
        if not near.any():
            break
        # Generous at first, since few points are at the far end, where a hypothesis errs most. Then the spread of those
        # that agree decides, because outliers next to the truth would bend it.
        limit = _BIWEIGHT * max(1.4826 * float(np.median(error[near])), _MIN_DEVIATION)
        limit = 2 * tolerance if i < _GENEROUS else min(tolerance, limit)
        weight = np.square(np.maximum(1 - np.square(np.minimum(error, limit) / limit), 0))
        refined = _least_squares(x, y, weight / np.square(y), space)
        if refined is None or refined[0] <= 0:
            break
        scale, shift = refined
    return scale, shift


def _least_squares(x: Floats, y: Floats, weight: Floats, space: DepthSpace) -> tuple[float, float] | None:
    total = weight.sum()
    if space is DepthSpace.SCALE:
        squares = (weight * x * x).sum()
        return (float((weight * x * y).sum() / squares), 0.0) if squares > 0 else None
    if not total > 0:
        return None
    mean_x, mean_y = (weight * x).sum() / total, (weight * y).sum() / total
    variance = (weight * np.square(x - mean_x)).sum()
    if not variance > 1e-12 * total:
        return None
    scale = float((weight * (x - mean_x) * (y - mean_y)).sum() / variance)
    return scale, float(mean_y - scale * mean_x)
