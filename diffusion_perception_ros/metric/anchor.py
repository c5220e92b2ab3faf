"""Metric depth over time: anchored by references, smoothed, and withheld whenever it cannot be vouched for."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions.status import MetricState
from diffusion_perception_ros.frames.frame import NANOSECONDS
from diffusion_perception_ros.metric.fit import DepthFit, DepthSpace, fit_depth, inlier_ratio

# How far beyond the nearest and farthest point of the reference its scale is believed.
_EXTRAPOLATION = 1.25


@dataclass(frozen=True)
class AnchorSettings:
    """When metres are trusted.

    Attributes:
        max_reference_age: Seconds between a frame and the reference it is held against.
        min_reference_points: Known points that a reference needs.
        inlier_tolerance: A point agrees if it is off by at most this share of its distance.
        min_inlier_ratio: Share of the reference's points that has to agree.
        smoothing: Time constant of scale and shift in seconds; 0 for none.
    """

    max_reference_age: float = 0.5
    min_reference_points: int = 50
    inlier_tolerance: float = 0.15
    min_inlier_ratio: float = 0.5
    smoothing: float = 0.5


@dataclass(frozen=True, eq=False)
class Reference:
    """Metric depth from another source: ``depth`` is (H, W) metres, ``stamp`` in ns."""

    stamp: int
    depth: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class MetricDepth:
    """What can be said in metres about one frame.

    Attributes:
        state: TRUSTED, or why there are no metres.
        metres: (H, W) float32 along Z, NaN where invalid; None unless trusted.
        fit: The relation that was used, or the one that was too poor.
        reference_age: Seconds from the reference to the frame; NaN without a reference.
    """

    state: MetricState
    metres: NDArray[np.float32] | None = None
    fit: DepthFit | None = None
    reference_age: float = math.nan


class MetricAnchor:
    """Turns relative depth into metres, frame after frame.

    Every frame is held against a reference of its own time; scale and shift of the frames before only steady the
    result, and only as long as the reference agrees with what comes out.
    """

    def __init__(self, space: DepthSpace) -> None:
        self._space = space
        self.reset()

    def reset(self) -> None:
        """Forget the past."""
        self._fit: DepthFit | None = None
        self._stamp = 0

    def anchor(
        self, stamp: int, relative: NDArray[np.float32], reference: Reference | None, settings: AnchorSettings
    ) -> MetricDepth:
        """Metres for one frame.

        Args:
            stamp: Of the frame, in ns.
            relative: (H, W) relative depth in [0, 1], larger is farther.
            reference: The one closest to the frame in time, of the frame's size; None if none has arrived.
            settings: When to trust.
        """
        if reference is None:
            return MetricDepth(MetricState.NO_REFERENCE)
        age = (stamp - reference.stamp) / NANOSECONDS
        if abs(age) > settings.max_reference_age:
            return MetricDepth(MetricState.STALE, reference_age=age)
        tolerance = settings.inlier_tolerance
        fit = fit_depth(relative, reference.depth, self._space, settings.min_reference_points, tolerance)
        if fit is None or fit.inlier_ratio < settings.min_inlier_ratio:
            return MetricDepth(MetricState.POOR_FIT, fit=fit, reference_age=age)
        smoothed = self._smooth(fit, stamp, settings.smoothing)
        ratio = inlier_ratio(smoothed, relative, reference.depth, tolerance)
        # Past scales do not hold when the scene changes at once, as at a door.
        if ratio < max(settings.min_inlier_ratio, 0.9 * fit.inlier_ratio):
            smoothed, ratio = fit, fit.inlier_ratio
        self._fit, self._stamp = smoothed, stamp
        return MetricDepth(
            MetricState.TRUSTED, _valid_metres(smoothed, relative), replace(smoothed, inlier_ratio=ratio), age
        )

    def _smooth(self, fit: DepthFit, stamp: int, time_constant: float) -> DepthFit:
        """An exponential moving average, whose weights follow the time between frames."""
        elapsed = (stamp - self._stamp) / NANOSECONDS
        if self._fit is None or time_constant <= 0 or elapsed < 0:
            return fit
        weight = 1 - math.exp(-elapsed / time_constant)
        scale = self._fit.scale + weight * (fit.scale - self._fit.scale)
        shift = self._fit.shift + weight * (fit.shift - self._fit.shift)
        return replace(fit, scale=scale, shift=shift)


def _valid_metres(fit: DepthFit, relative: NDArray[np.float32]) -> NDArray[np.float32]:
    """NaN where relative depth is clipped, or metres lie outside the range that the reference vouches for."""
    metres = fit.metres(relative)
    near, far = fit.nearest / _EXTRAPOLATION, fit.farthest * _EXTRAPOLATION
    with np.errstate(invalid="ignore"):
        valid = (relative > 0) & (relative < 1) & (metres >= near) & (metres <= far)
    metres[~valid] = np.nan
    return metres
