"""Whether a frame shows what the last one would look like by now: pixel by pixel, and as a whole."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_COVERED = 0.5
# Measured on held-out scenes, see docs/temporal.md: neighbours in time agree on more than 0.65 of the pixels that both
# show, frames of two scenes on less than 0.57.
_SAME_SCENE = 0.6
_STILL_SHOWN = 0.2
_TOLERANCE = 0.5
_LEAST_CONTRAST = 0.1


def agreement(expected: Tensor, image: Tensor, coverage: Tensor) -> tuple[Tensor, Tensor]:
    """How far a frame agrees with what was expected of it.

    Residuals count in standard deviations of the frame, after a common change of brightness was taken off, which an
    automatic exposure makes. A pixel that nothing arrived at, or that the wrong thing arrived at, agrees with nothing:
    places that come into view, flow that errs, things that change.

    Args:
        expected: (3, H, W) the last frame, moved along the flow; nominally in [-1, 1].
        image: (3, H, W) the frame.
        coverage: (H, W) how many pixels arrived at each, as `splat` says.

    Returns:
        (H, W) in [0, 1], and a bool tensor () whether the scene goes on. After a cut all of the former is zero.
    """
    covered = (coverage > _COVERED).to(image)
    count = covered.sum().clamp(min=1)
    difference = expected - image
    difference = difference - (difference * covered).sum((1, 2), keepdim=True) / count
    residual = F.avg_pool2d(difference.abs().mean(0)[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
    tolerance = _TOLERANCE * image.std().clamp(min=_LEAST_CONTRAST)
    agree = (-(residual / tolerance).square()).exp() * covered
    goes_on = (agree.sum() > _SAME_SCENE * count) & (covered.mean() > _STILL_SHOWN)
    return torch.where(goes_on, agree, 0), goes_on
