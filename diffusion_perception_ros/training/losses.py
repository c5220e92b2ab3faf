"""Losses: of diffusion in the latent space, and of the answer itself after one step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.metadata import TargetEncoding
from diffusion_perception_ros.tasks import Target, Truth
from diffusion_perception_ros.tasks.flow import displacement

# A mask of -1 and 1 has these logits per unit: steep enough that -1 and 1 are nearly certain.
_LOGITS_PER_UNIT = 4.0
# Of the whole mask, and of its hidden part, which is small and all that was asked for.
_SOFT_IOU_WEIGHT, _HIDDEN_IOU_WEIGHT = 1.0, 3.0
# So much of an object is added to both sides of the hidden part's IoU: wrong pixels cost where nothing is hidden, too.
_HIDDEN_SMOOTHING = 0.02
# Metres: a fit of the scale and shift of depth looks no further (Garg et al. 2016), or it would fit the horizon alone.
_FARTHEST = 80.0
# How many times as much as the median pixel a near one may count.
_MOST_WEIGHT = 4.0
_ENDPOINT_SMOOTHING = 1e-3
# Shorter vectors have less of an angle, which keeps its gradient finite.
_ANGLE_SMOOTHING = 0.1
# Of the squared distance, which gives vectors their length: 1, or 0 where there is no surface.
_LENGTH_WEIGHT = 0.25

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


def log_depth_loss(images: Tensor, target: Target, truth: Truth, log_range: float) -> Tensor:
    """Mean absolute error of logarithmic depth, and mean relative error after a least-squares scale and shift.

    The second is what affine-invariant depth is judged by (Ranftl et al. 2020; Garcia et al. 2025, E2E-FT), and differs
    from the first where a frame reaches far: the fit is to metres.
    """
    x = images.mean(dim=(1, 2))
    logarithmic = _mean((x - target.images.mean(dim=(1, 2))).abs() * log_range, target.valid.to(x.dtype))
    valid = target.valid & (truth.depth < _FARTHEST)
    weight = valid.to(x.dtype)
    depth = torch.where(valid, truth.depth, 1.0).clamp_min(1e-3)
    depth = depth / _mean(depth, weight).clamp_min(1e-3).view(-1, 1, 1)
    relative = (x.clamp(-1.5, 1.5) * log_range).exp()
    deviation = relative - _mean(relative, weight).view(-1, 1, 1)
    covariance, variance = _mean(deviation * (depth - 1), weight), _mean(deviation.square(), weight)
    scale = (covariance / variance.clamp_min(1e-6)).view(-1, 1, 1)
    return logarithmic + _mean((scale * deviation + 1 - depth).abs() / depth, weight)


def flow_loss(images: Tensor, target: Target, truth: Truth) -> Tensor:
    """End-point error in units of the largest displacement, smooth at zero."""
    error = (displacement(images) - displacement(target.images)).square().sum(dim=1)
    return _mean((error + _ENDPOINT_SMOOTHING**2).sqrt(), target.valid)


def mask_loss(images: Tensor, target: Target, truth: Truth) -> Tensor:
    """Binary cross-entropy, and soft IoU of the whole mask and of its hidden part."""
    logits = _LOGITS_PER_UNIT * images.mean(dim=(1, 2))
    mask = (target.images.mean(dim=(1, 2)) > 0).to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, mask, reduction="none").mean(dim=(1, 2))
    probability, unseen = logits.sigmoid(), (~truth.visible).to(logits.dtype)
    hidden = mask * unseen
    return (
        entropy
        + _SOFT_IOU_WEIGHT * (1 - _soft_iou(probability, mask))
        + _HIDDEN_IOU_WEIGHT * (1 - _soft_iou(probability * unseen, hidden, _HIDDEN_SMOOTHING * mask.sum(dim=(1, 2))))
    )


def angular_loss(images: Tensor, target: Target, truth: Truth) -> Tensor:
    """One minus the cosine of the angle between normals, where there is a surface, and the length of the vectors.

    The angular loss of one-step fine-tuning (Xu et al. 2025, GenPercept; Garcia et al. 2025, E2E-FT), smooth at zero.
    """
    vectors, wanted = images[:, 0], target.images[:, 0]
    valid = target.valid.to(vectors.dtype)
    cosine = (vectors * wanted).sum(dim=1) / (vectors.square().sum(dim=1) + _ANGLE_SMOOTHING**2).sqrt()
    angular = _mean(1 - cosine, valid * (wanted.norm(dim=1) > 0.5))
    return angular + _LENGTH_WEIGHT * _mean((vectors - wanted).square().sum(dim=1), valid)


def appearance_loss(images: Tensor, target: Target, truth: Truth) -> Tensor:
    """Mean absolute error of colours; the object counts as much as the white around it, whatever its size."""
    error = (images - target.images).abs().mean(dim=(1, 2))
    mask = truth.amodal.to(error.dtype)
    return (_mean(error, mask) + _mean(error, 1 - mask)) / 2


# By the kind of a task's target encoding; the names of the encoding's parameters that the loss needs.
IMAGE_LOSSES: dict[str, tuple[Callable[..., Tensor], tuple[str, ...]]] = {
    "affine": (depth_loss, ()),
    "log": (log_depth_loss, ("log_range",)),
    "log_metric": (log_depth_loss, ("log_range",)),
    "displacement": (flow_loss, ()),
    "displacement_xy": (flow_loss, ()),
    "mask": (mask_loss, ()),
    "mask_in_region": (mask_loss, ()),
    "rgb_on_white": (appearance_loss, ()),
    "unit_vector": (angular_loss, ()),
}


def find_image_loss(encoding: TargetEncoding) -> ImageLoss:
    """The loss of a target encoding: (B, labels, 3, H, W) images, target and truth to (B,).

    Raises:
        InputError: There is none.
    """
    try:
        loss, parameters = IMAGE_LOSSES[encoding.kind]
    except KeyError:
        raise InputError(
            f"there is no image-level loss for the target encoding {encoding.kind!r}; use {', '.join(IMAGE_LOSSES)}."
        ) from None
    return partial(loss, **{name: encoding.parameters[name] for name in parameters})


def _soft_iou(probability: Tensor, mask: Tensor, smoothing: Tensor | float = 0.0) -> Tensor:
    """(B,) of (B, h, w); the smoothing is in pixels."""
    shared = (probability * mask).sum(dim=(1, 2))
    union = (probability + mask).sum(dim=(1, 2)) - shared
    return (shared + smoothing) / (union + smoothing).clamp_min(1)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """(B,) weighted means of (B, h, w); 0 where nothing counts."""
    total: Tensor = (values * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2)).clamp_min(1e-6)
    return total
