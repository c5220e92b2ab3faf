"""Monocular depth, affine-invariant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from diffusion_perception_ros.model.metadata import TargetEncoding
from diffusion_perception_ros.sampling.ensemble import ensemble_depth
from diffusion_perception_ros.tasks.target import Target, Truth
from diffusion_perception_ros.tasks.task import DecodeContext, Picture, Task


class Depth(Task):
    """Depth up to scale and shift.

    The target's 2 % and 98 % depth quantiles are -1 and 1, far is 1. In training the prompt was the ground
    truth's valid mask as 0 and 1 in three channels; a camera has no ground truth, so live it is all ones.
    """

    name = "depth"
    released = TargetEncoding("affine", labels=(1000,), image_interpolation="nearest-exact")
    kinds: ClassVar[Mapping[str, tuple[str, ...]]] = {"affine": ()}

    def prompts(self, encoding: TargetEncoding, instances: Sequence[int]) -> list[Picture]:
        """All ones: every pixel is wanted."""
        return [Picture("ones")]

    def decode(self, images: Tensor, context: DecodeContext) -> dict[str, Any]:
        """``depth_relative`` = (x + 1) / 2, clipped.

        The range is the network's own, never the frame's minimum and maximum, which would flicker. The
        ``released`` aligner alone stretches to [0, 1] (before resizing), as the released code does.
        """
        members = images[:, 0, 0].mean(dim=1)  # (members, R, R)
        depth, uncertainty = ensemble_depth(members, context.aligner)
        if len(members) == 1 or context.aligner != "released":
            depth = (depth + 1) / 2
            uncertainty = uncertainty / 2 if uncertainty is not None else None
        fields: dict[str, Any] = {"depth_relative": context.geometry.to_input(depth).clamp(0, 1).cpu().numpy()}
        if uncertainty is not None:
            fields["depth_uncertainty"] = context.geometry.to_input(uncertainty).cpu().numpy()
        return fields

    def encode_target(self, truth: Truth, encoding: TargetEncoding, flow_reference_size: tuple[int, int]) -> Target:
        """Between the quantiles linear, beyond them clipped; the sky is as far as far can be."""
        known = torch.where(truth.depth.isfinite(), truth.depth, torch.nan).flatten(1)
        near, far = known.nanquantile(known.new_tensor([0.02, 0.98]), dim=1).view(2, -1, 1, 1)
        # A wall parallel to the image has one depth only; an image without any known depth has none.
        images = ((truth.depth - near) / (far - near).clamp_min(1e-6)).mul(2).sub(1).clamp(-1, 1)
        valid = ~truth.depth.isnan() & near.isfinite()
        images = torch.where(valid, images, -1.0)
        return Target(images[:, None, None].expand(-1, 1, 3, -1, -1), valid)
