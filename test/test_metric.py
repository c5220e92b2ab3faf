from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from diffusion_perception_ros.conversions import MetricState
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.metric.anchor import AnchorSettings, MetricAnchor, Reference
from diffusion_perception_ros.metric.fit import DepthSpace, fit_depth, inlier_ratio

SECOND = 10**9
SIZE = (30, 40)


def relative(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0.02, 0.98, SIZE).astype(np.float32)


def metres_of(r: NDArray[np.float32], space: DepthSpace, scale: float, shift: float) -> NDArray[np.float32]:
    if space is DepthSpace.INVERSE:
        return np.asarray(1 / (scale * (1 - r) + shift), np.float32)
    return np.asarray(scale * r + (0 if space is DepthSpace.SCALE else shift), np.float32)


@settings(deadline=None, max_examples=60)
@given(
    space=st.sampled_from(list(DepthSpace)),
    scale=st.floats(0.2, 50),
    shift=st.floats(0.2, 5),
    outliers=st.floats(0, 0.4),
    density=st.floats(0.1, 1),
    seed=st.integers(0, 1000),
)
def test_the_relation_is_found_with_up_to_forty_percent_outliers_in_sparse_references(
    space: DepthSpace, scale: float, shift: float, outliers: float, density: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    r = relative(seed)
    truth = metres_of(r, space, scale, shift)
    reference = truth * random.uniform(0.98, 1.02, SIZE).astype(np.float32)
    wrong = random.random(SIZE) < outliers
    reference[wrong] = random.uniform(0.5 * truth.min(), 2 * truth.max(), SIZE)[wrong]
    reference[random.random(SIZE) > density] = random.choice([0.0, np.nan, np.inf, -1.0])
    fit = fit_depth(r, reference, space, min_points=50, tolerance=0.1)
    assert fit is not None
    assert fit.inlier_ratio >= 0.95 * (1 - outliers) - 0.1
    assert fit.scale > 0
    assert np.mean(np.abs(fit.metres(r) - truth) <= 0.1 * truth) >= 0.97


@settings(deadline=None, max_examples=100)
@given(
    r=arrays(np.float32, (6, 8), elements=st.floats(0, 1, width=32) | st.just(np.nan)),
    z=arrays(np.float32, (6, 8), elements=st.floats(-10, 100, width=32) | st.sampled_from([np.nan, np.inf, -np.inf])),
    space=st.sampled_from(list(DepthSpace)),
)
def test_whatever_comes_in_a_fit_is_finite_and_positive_or_there_is_none(
    r: NDArray[np.float32], z: NDArray[np.float32], space: DepthSpace
) -> None:
    fit = fit_depth(r, z, space, min_points=10, tolerance=0.15)
    if fit is not None:
        assert fit.scale > 0
        assert all(map(math.isfinite, (fit.scale, fit.shift, fit.nearest, fit.farthest)))
        assert 0 < fit.nearest <= fit.farthest
        assert 0 <= fit.inlier_ratio <= 1
    anchored = MetricAnchor(space).anchor(0, r, Reference(0, z), AnchorSettings(min_reference_points=10))
    if anchored.metres is not None:
        known = anchored.metres[np.isfinite(anchored.metres)]
        assert (known > 0).all()
        assert not np.isinf(anchored.metres).any()
    assert (anchored.state is MetricState.TRUSTED) == (anchored.metres is not None)


@pytest.mark.parametrize(
    ("r", "z"),
    [
        (np.full(SIZE, 0.5), np.linspace(1, 5, 1200).reshape(SIZE)),  # a flat prediction fits any scale
        (relative(), np.zeros(SIZE)),
        (relative(), np.where(np.arange(1200).reshape(SIZE) < 20, 2.0, np.nan)),  # too few points
        (relative(), 5 - 3 * relative()),  # nearer where it should be farther
        ((relative() > 0.5).astype(np.float32), 1 + relative()),  # everything is clipped
    ],
)
def test_degenerate_references_give_no_fit(r: Any, z: Any) -> None:
    fit = fit_depth(r.astype(np.float32), z.astype(np.float32), DepthSpace.AFFINE, min_points=50, tolerance=0.1)
    assert fit is None or fit.inlier_ratio < 0.5


def frame(anchor: MetricAnchor, stamp: float, scale: float, age: float = 0.0, **options: Any) -> Any:
    r = relative(int(stamp * 100))
    at = int(stamp * SECOND)
    reference = Reference(at - int(age * SECOND), metres_of(r, DepthSpace.AFFINE, scale, 1.0))
    return r, anchor.anchor(at, r, reference, AnchorSettings(**options))


def test_scale_is_smoothed_over_time_unless_the_reference_objects() -> None:
    anchor = MetricAnchor(DepthSpace.AFFINE)
    assert frame(anchor, 10.0, 3.0)[1].fit.scale == pytest.approx(3.0, rel=1e-4)
    _, second = frame(anchor, 10.1, 3.2, smoothing=0.5)
    assert second.fit.scale == pytest.approx(3.0 + (1 - math.exp(-0.2)) * 0.2, rel=1e-3)
    assert frame(anchor, 10.2, 3.2, smoothing=0.0)[1].fit.scale == pytest.approx(3.2, rel=1e-4)
    r, jumped = frame(anchor, 10.3, 12.0, smoothing=0.5)
    np.testing.assert_allclose(jumped.metres[np.isfinite(jumped.metres)].max(), 12 * r.max() + 1, rtol=1e-2)
    anchor.reset()
    assert frame(anchor, 10.4, 3.0)[1].fit.scale == pytest.approx(3.0, rel=1e-4)


@pytest.mark.parametrize("age", [0.6, -0.6])
def test_a_stale_reference_withholds(age: float) -> None:
    anchor = MetricAnchor(DepthSpace.AFFINE)
    frame(anchor, 9.9, 3.0)
    _, stale = frame(anchor, 10.0, 3.0, age=age)
    assert (stale.state, stale.metres) == (MetricState.STALE, None)
    assert stale.reference_age == pytest.approx(age)
    assert frame(anchor, 10.0, 3.0, age=age, max_reference_age=1.0)[1].state is MetricState.TRUSTED


def test_no_reference_and_poor_fit_withhold() -> None:
    anchor = MetricAnchor(DepthSpace.AFFINE)
    none = anchor.anchor(0, relative(), None, AnchorSettings())
    assert (none.state, none.metres) == (MetricState.NO_REFERENCE, None)
    noise = np.random.default_rng(1).uniform(0.5, 20, SIZE).astype(np.float32)
    poor = anchor.anchor(0, relative(), Reference(0, noise), AnchorSettings())
    assert (poor.state, poor.metres) == (MetricState.POOR_FIT, None)


def test_what_is_clipped_or_beyond_the_reference_is_nan() -> None:
    r = relative()
    z = metres_of(r, DepthSpace.AFFINE, 10.0, 1.0)
    r[0, 0], r[0, 1] = 1.0, 0.0
    metric = MetricAnchor(DepthSpace.AFFINE).anchor(0, r, Reference(0, np.where(z < 5, z, 0)), AnchorSettings())
    assert metric.metres is not None
    assert np.isnan(metric.metres[0, :2]).all()
    assert np.isnan(metric.metres[z > 5 * 1.26]).all()
    kept = (z < 5) & (r > 0) & (r < 1)
    np.testing.assert_allclose(metric.metres[kept], z[kept], rtol=1e-3)


def test_the_space_comes_from_the_checkpoint() -> None:
    assert DepthSpace.of_encoding("affine") is DepthSpace.AFFINE
    assert DepthSpace.of_encoding("log") is DepthSpace.SCALE
    with pytest.raises(InputError, match="cannot be anchored"):
        DepthSpace.of_encoding("colours")


def test_inlier_ratio_without_points_is_zero() -> None:
    fit = fit_depth(relative(), metres_of(relative(), DepthSpace.SCALE, 2, 0), DepthSpace.SCALE, 50, 0.1)
    assert fit is not None
    assert inlier_ratio(fit, relative(), np.zeros(SIZE, np.float32), 0.1) == 0.0
