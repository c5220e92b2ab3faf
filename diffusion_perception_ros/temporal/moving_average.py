"""A moving average along the flow."""

from __future__ import annotations

from torch import Tensor

MEMORY = 4
"""Frames. After so many an average weighs the past like so many frames, and the new one like one."""


def moving_average(
    past: Tensor, count: Tensor, current: Tensor, agree: Tensor, *, has_scale: bool
) -> tuple[Tensor, Tensor]:
    """One more frame into the mean of those before it.

    The running mean of up to `MEMORY` frames, after that an exponential filter; pixel by pixel, because a place that
    has just come into view, or that does not look as expected, has no past. Both are first given a common location (and
    scale), itself an average by the same weights: else pixels with a past and those without would not fit together,
    since each frame's depth has a unit of its own.

    Args:
        past: (M, H, W) the means of M ensemble members, moved to this frame.
        count: (H, W) how many frames each is the mean of.
        current: (M, H, W) this frame's predictions.
        agree: (H, W) in [0, 1], how far the past holds.
        has_scale: Whether each frame has a scale of its own besides its location.

    Returns:
        (M, H, W) means, and (H, W) how many frames each is the mean of.
    """
    count = count.clamp(max=MEMORY) * agree
    total = count.sum().clamp(min=1e-6)
    share = count / (count + 1)
    common = (count * share).sum() / total

    def mean(values: Tensor) -> Tensor:
        return (values * count).sum((1, 2), keepdim=True) / total

    locations = mean(past), mean(current)
    past, current = past - locations[0], current - locations[1]
    if has_scale:
        # The mean absolute deviation, as in `align_standardize`: a least-squares fit would shrink what is noisy.
        scales = [mean(x.abs()).clamp(min=1e-6) for x in (past, current)]
        scale = scales[0].lerp(scales[1], 1 - common)
        # Where nothing has a past, there is nothing to compare with.
        known = total > 1e-6
        past, current = (x * (scale / s).where(known, 1) for x, s in zip((past, current), scales, strict=True))
    location = locations[0] * common + locations[1] * (1 - common)
    return current.lerp(past, share) + location, count + 1
