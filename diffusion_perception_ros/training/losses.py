"""Losses: of diffusion in the latent space, and of the answer itself after one step."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.tasks import Target, Truth

# A mask of -1 and 1 has these logits per unit: steep enough that -1 and 1 are nearly certain.
_LOGITS_PER_UNIT = 4.0
_SOFT_IOU_WEIGHT = 0.3
# How many times as much as the median pixel a near one may count.
_MOST_WEIGHT = 4.0
_ENDPOINT_SMOOTHING = 1e-3

ImageLoss = Callable[[Tensor, Target, Truth], Tensor]


def diffusion_loss(prediction: Tensor, target: Tensor, valid: Tensor, norm: str) -> Tensor:
    """(B,) mean of errors or squared errors where the truth is known.

    Args:
        prediction: (B, C, h, w).
        target: (B, C, h, w).
        valid: (B, H, W) bool, at the image's resolution; a latent pixel counts as much as it has valid pixels.
        norm: ``l1`` or ``l2``.
    """
    error = prediction - target
    error = error.abs() if norm == "l1" else error.square()
    weight = F.interpolate(valid.to(error.dtype).unsqueeze(1), size=error.shape[-2:], mode="area")
    return _mean(error.mean(dim=1), weight.squeeze(1))


def depth_loss(images: Tensor, target: Target, truth: Truth) -> Tensor:
    """Mean absolute error of affine depth, weighted by inverse depth.

    An error of a tenth of the range is nothing to a far wall and everything to a near obstacle, and metrics of depth
    are about relative errors.
    """
    depth = torch.where(truth.depth.isnan(), torch.inf, truth.depth).flatten(1)
    closeness = depth.median(dim=1).values.clamp(max=1e4).view(-1, 1, 1) / truth.depth.clamp(min=1e-3)
    weight = torch.where(target.valid, closeness.clamp(1 / _MOST_WEIGHT, _MOST_WEIGHT), 0)
    return _mean((images - target.images).abs().mean(dim=(1, 2)), weight)


def flow_loss(images: Tensor, target: Target, truth: Truth) -> Tensor:
    """End-point error in units of the largest displacement, smooth at zero."""
    error = (images - target.images).mean(dim=2).square().sum(dim=1)
    return _mean((error + _ENDPOINT_SMOOTHING**2).sqrt(), target.valid)


def mask_loss(images: Tensor, target: Target, truth: Truth) -> Tensor:
    """Binary cross-entropy and soft IoU."""
    logits = _LOGITS_PER_UNIT * images.mean(dim=(1, 2))
    mask = (target.images.mean(dim=(1, 2)) > 0).to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, mask, reduction="none").mean(dim=(1, 2))
    probability = logits.sigmoid()
    shared = (probability * mask).sum(dim=(1, 2))
    union = (probability + mask).sum(dim=(1, 2)) - shared
    return entropy + _SOFT_IOU_WEIGHT * (1 - shared / union.clamp_min(1))


# By the kind of a task's target encoding.
IMAGE_LOSSES: dict[str, ImageLoss] = {"affine": depth_loss, "displacement": flow_loss, "mask": mask_loss}


def find_image_loss(kind: str) -> ImageLoss:
    """The loss of a target encoding: (B, labels, 3, H, W) images, target and truth to (B,).

    Raises:
        InputError: There is none.
    """
    try:
        return IMAGE_LOSSES[kind]
    except KeyError:
        raise InputError(
            f"there is no image-level loss for the target encoding {kind!r}; use {', '.join(IMAGE_LOSSES)}."
        ) from None


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """(B,) weighted means of (B, h, w); 0 where nothing counts."""
    total: Tensor = (values * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2)).clamp_min(1e-6)
    return total
