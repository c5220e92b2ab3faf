"""How much an image codec changes a picture."""

from __future__ import annotations

from torch import Tensor

# Of the squared range: errors that no picture of 8 bits can show, and that would make one picture count for all.
_LEAST_ERROR = 1e-8


def psnr(reconstructions: Tensor, images: Tensor) -> Tensor:
    """(B,) peak signal-to-noise ratios in dB, at most 80.

    Args:
        reconstructions: (B, 3, H, W); what is beyond [-1, 1] is clipped.
        images: (B, 3, H, W) in [-1, 1].
    """
    error = ((reconstructions.clamp(-1, 1) - images) / 2).square().mean(dim=(1, 2, 3))
    return -10 * error.clamp_min(_LEAST_ERROR).log10()


def mean_absolute_error(reconstructions: Tensor, images: Tensor) -> Tensor:
    """(B,) of the same, in the units of the range from -1 to 1."""
    return (reconstructions.clamp(-1, 1) - images).abs().mean(dim=(1, 2, 3))
