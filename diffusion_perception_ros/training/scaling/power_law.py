"""Fits of power laws to training compute."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

from diffusion_perception_ros.errors import InputError

LEAST_POINTS = 3
# The constant is a third parameter, and Akaike's criterion with its correction for few points needs two points more
# than there are parameters, the noise being one.
_LEAST_POINTS_WITH_CONSTANT = 6
# By how much the criterion has to be lower (Burnham & Anderson 2002: the simpler model has little support left).
_EVIDENCE = 4.0
# A law through every point is no better than one that misses them by rounding.
_ROUNDING = 1e-6
# Of the lowest value.
_LARGEST_CONSTANT = 0.9999


@dataclass(frozen=True)
class PowerLaw:
    """``constant + coefficient * flops ** exponent``.

    Attributes:
        exponent: Negative where more compute helps.
        coefficient: Above 0, in the unit of what is fitted.
        constant: What no compute takes away; 0 unless the points speak for one.
        r_squared: Share of the variance of the logarithms that it explains.
        points: How many it was fitted to.
    """

    exponent: float
    coefficient: float
    constant: float
    r_squared: float
    points: int

    def __call__(self, flops: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Of any compute above 0."""
        return self.constant + self.coefficient * flops**self.exponent


def fit_power_law(flops: ArrayLike, values: ArrayLike) -> PowerLaw:
    """Least squares of the logarithms.

    Without a constant that is a straight line (Kaplan et al. 2020, arXiv 2001.08361; Ravishankar et al. 2025, arXiv
    2411.08034). One is added (Henighan et al. 2020, arXiv 2010.14701) where the corrected Akaike criterion asks for it.

    Args:
        flops: (N,) above 0.
        values: (N,) above 0, of a loss or an error.

    Raises:
        InputError: There are fewer than 3 points, or all are of one compute.
    """
    x, y = np.log(np.asarray(flops, np.float64)), np.log(np.asarray(values, np.float64))
    if len(y) < LEAST_POINTS:
        raise InputError(f"a power law needs {LEAST_POINTS} points at least, and there are {len(y)}.")
    if np.ptp(x) < _ROUNDING:
        raise InputError("all points took the same compute, so nothing follows from them; add runs of other sizes.")
    # Around the middle, so that slope and height do not depend on each other.
    middle = float(x.mean())
    slope, height = (float(value) for value in np.polyfit(x - middle, y, 1))
    law, residuals = _law(slope, height, 0.0, middle, x, y)
    if len(y) >= _LEAST_POINTS_WITH_CONSTANT:
        slope, height, share = _with_constant(x - middle, y, slope)
        other, smaller = _law(slope, height, share * float(np.exp(y.min())), middle, x, y)
        if _criterion(smaller, 4) < _criterion(residuals, 3) - _EVIDENCE:
            return other
    return law


def _with_constant(x: NDArray[np.float64], y: NDArray[np.float64], slope: float) -> tuple[float, float, float]:
    """Slope and height at x = 0 of the logarithm of what is above the constant, and its share of the least value."""
    least = y.min()

    def miss(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        steepness, height, share = parameters
        residuals: NDArray[np.float64] = np.logaddexp(least + np.log(share), height + steepness * x) - y
        return residuals

    starts = [(slope / (1 - share), float(y.mean()) + math.log1p(-share), share) for share in (0.1, 0.5, 0.9)]
    bounds = ([-np.inf, -np.inf, 1e-9], [np.inf, np.inf, _LARGEST_CONSTANT])
    fits = [least_squares(miss, start, bounds=bounds, x_scale="jac", xtol=1e-14, ftol=1e-14) for start in starts]
    steepness, height, share = min(fits, key=lambda fit: float(fit.cost)).x
    return float(steepness), float(height), float(share)


def _law(
    slope: float, height: float, constant: float, middle: float, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[PowerLaw, NDArray[np.float64]]:
    """The law, and by how much it misses each logarithm."""
    residuals = np.log(constant + np.exp(height + slope * (x - middle))) - y
    total = float(np.square(y - y.mean()).sum())
    explained = 1 - float(np.square(residuals).sum()) / total if total > 0 else 1.0
    return PowerLaw(slope, math.exp(height - slope * middle), constant, explained, len(y)), residuals


def _criterion(residuals: NDArray[np.float64], parameters: int) -> float:
    """Akaike's, corrected for few points (Hurvich & Tsai 1989); lower is better."""
    count = len(residuals)
    variance = max(float(np.square(residuals).mean()), _ROUNDING**2)
    return count * math.log(variance) + 2 * parameters * count / (count - parameters - 1)
