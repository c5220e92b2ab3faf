"""Monocular depth, affine-invariant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from diffusion_perception_ros.model.metadata import TargetEncoding
from diffusion_perception_ros.sampling.ensemble import ensemble_depth
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
        ``released`` aligner alone stretches to [0, 1], as the released code does.
        """
        members = (images[:, 0, 0].mean(dim=1) + 1) / 2  # (members, R, R)
        depth, uncertainty = ensemble_depth(members, context.aligner)
        fields: dict[str, Any] = {"depth_relative": context.geometry.to_input(depth).clamp(0, 1).cpu().numpy()}
        if uncertainty is not None:
            fields["depth_uncertainty"] = context.geometry.to_input(uncertainty).cpu().numpy()
        return fields
