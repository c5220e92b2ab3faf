"""Monocular depth: affine-invariant, up to scale, or in metres, as the checkpoint declares it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from diffusion_perception_ros.model.metadata import TargetEncoding
from diffusion_perception_ros.sampling.ensemble import ensemble_depth
from diffusion_perception_ros.tasks.target import Target, Truth
from diffusion_perception_ros.tasks.task import DecodeContext, Picture, Task

_LOGARITHMIC = ("log", "log_metric")


class Depth(Task):
    """How far away everything is.

    ``affine``, the released encoding: the target's 2 % and 98 % depth quantiles are -1 and 1, far is 1.
    ``log``: the logarithm of depth over the frame's median, 1 for ``log_range``, so that an error of a tenth is the
    same near and far. Depth is then known up to scale alone. ``log_metric``: likewise over ``middle`` metres in every
    frame, from a checkpoint that learned how large things are.

    In training the released prompt was the ground truth's valid mask as 0 and 1 in three channels; a camera has no
    ground truth, so live it is all ones.
    """

    name = "depth"
    released = TargetEncoding("affine", labels=(1000,), image_interpolation="nearest-exact")
    kinds: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "affine": (),
        "log": ("log_range",),
        "log_metric": ("log_range", "middle"),
    }
    learned_from: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(kinds, ("depth",))
    single_channel: ClassVar[tuple[str, ...]] = tuple(kinds)

    def prompts(self, encoding: TargetEncoding, instances: Sequence[int]) -> list[Picture]:
        """All ones: every pixel is wanted."""
        return [Picture("ones")]

    def decode(self, images: Tensor, context: DecodeContext) -> dict[str, Any]:
        """``depth_relative``: ``affine`` (x + 1) / 2, else exp(log_range (x - 1)), both with x clipped to [-1, 1].

        ``log_metric`` has ``depth_metric``, too: middle exp(log_range x), NaN where x is at its limits; but no
        metres of what was stretched.

        The range is the network's own, never the frame's minimum and maximum, which would flicker. The
        ``released`` aligner alone stretches x to [-1, 1] (before resizing), as the released code does.
        """
        members = images[:, 0, 0].mean(dim=1)  # (members, R, R)
        x, spread = ensemble_depth(members, context.aligner)
        is_stretched = len(members) > 1 and context.aligner == "released"
        if is_stretched:  # in [0, 1]
            x, spread = x * 2 - 1, spread * 2 if spread is not None else None
        x = context.geometry.to_input(x)
        depth = _relative(x, context.encoding)
        fields: dict[str, Any] = {
            "depth_relative": depth,
            "depth_median": median_depth(context.encoding),
        }
        parameters = context.encoding.parameters
        if context.encoding.kind == "log_metric" and not is_stretched:
            metres = parameters["middle"] * (parameters["log_range"] * x).exp()
            fields["depth_metric"] = torch.where(x.abs() < 1, metres, torch.nan)
        if spread is not None:
            slope = depth * parameters["log_range"] if context.encoding.kind in _LOGARITHMIC else 0.5
            fields["depth_uncertainty"] = context.geometry.to_input(spread) * slope
        return fields

    def encode_target(self, truth: Truth, encoding: TargetEncoding, flow_reference_size: tuple[int, int]) -> Target:
        """``affine`` is linear between the quantiles; beyond the range clipped, so the sky is as far as far can be."""
        images = _network_values(truth.depth, encoding)
        valid = ~images.isnan()
        images = torch.where(valid, images.clamp(-1, 1), -1.0)
        return Target(images[:, None, None].expand(-1, 1, 3, -1, -1), valid)


def median_depth(encoding: TargetEncoding) -> float | None:
    """The ``depth_relative`` that stands for a frame's median (or middling) depth; None where there is none."""
    return math.exp(-encoding.parameters["log_range"]) if encoding.kind in _LOGARITHMIC else None


def faultless_depth(depth: Tensor, encoding: TargetEncoding) -> Tensor:
    """What a checkpoint that makes no mistakes would say of metric depth, for pictures beside its predictions.

    Args:
        depth: (B, H, W) metres; infinite in the sky, NaN where unknown.
        encoding: The checkpoint's encoding of depth.

    Returns:
        (B, H, W) as ``depth_relative``, NaN where unknown.
    """
    return _relative(_network_values(depth, encoding), encoding)


def _network_values(depth: Tensor, encoding: TargetEncoding) -> Tensor:
    """(B, H, W) metres to network values, not clipped; NaN where nothing is known."""
    known = torch.where(depth.isfinite(), depth, torch.nan).flatten(1)
    if encoding.kind in _LOGARITHMIC:
        is_metric = encoding.kind == "log_metric"
        median = encoding.parameters["middle"] if is_metric else known.nanmedian(dim=1).values.view(-1, 1, 1)
        return torch.log(depth.clamp_min(1e-6) / median) / encoding.parameters["log_range"]
    near, far = known.nanquantile(known.new_tensor([0.02, 0.98]), dim=1).view(2, -1, 1, 1)
    # A wall parallel to the image has one depth only.
    values: Tensor = ((depth - near) / (far - near).clamp_min(1e-6)).mul(2).sub(1)
    return values


def _relative(x: Tensor, encoding: TargetEncoding) -> Tensor:
    """Network values, clipped, to depth in [0, 1]."""
    x = x.clamp(-1, 1)  # a copy, which the rest is done in
    if encoding.kind in _LOGARITHMIC:
        return x.sub_(1).mul_(encoding.parameters["log_range"]).exp_()
    return x.add_(1).div_(2)
