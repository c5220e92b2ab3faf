"""Surface normals, which the released generalist was not trained for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from diffusion_perception_ros.constants import constant
from diffusion_perception_ros.model.metadata import TargetEncoding
from diffusion_perception_ros.tasks.target import Target, Truth
from diffusion_perception_ros.tasks.task import DecodeContext, Picture, Task

# A shorter vector is no answer: there is no surface, or the ensemble's members contradict each other.
_SHORTEST = 0.2


class Normals(Task):
    """Which way the surface faces, in the camera's optical frame: x right, y down, z forward.

    ``unit_vector``: the channels are x, y and z; no length is no surface. A wall that faces the camera is (0, 0, -1),
    a floor (0, -1, 0).
    """

    name = "normals"
    kinds: ClassVar[Mapping[str, tuple[str, ...]]] = {"unit_vector": ()}
    learned_from: ClassVar[Mapping[str, tuple[str, ...]]] = {"unit_vector": ("normals",)}

    def prompts(self, encoding: TargetEncoding, instances: Sequence[int]) -> list[Picture]:
        """All ones: every pixel is wanted."""
        return [Picture("ones")]

    def decode(self, images: Tensor, context: DecodeContext) -> dict[str, Any]:
        """``normals``: (H, W, 3) float32 unit vectors along the members' mean; NaN where that has next to no length."""
        vectors = context.geometry.to_input(images[:, 0, 0].mean(dim=0))
        length = vectors.norm(dim=0)
        normals = torch.where(length > _SHORTEST, vectors / length, torch.nan)
        return {"normals": normals.permute(1, 2, 0).contiguous()}

    def encode_target(self, truth: Truth, encoding: TargetEncoding, flow_reference_size: tuple[int, int]) -> Target:
        """The vectors themselves."""
        if truth.normals is None:
            return super().encode_target(truth, encoding, flow_reference_size)
        valid = truth.normals.isfinite().all(dim=1)
        return Target(truth.normals.nan_to_num().unsqueeze(1), valid)

    def unmirror(self, images: Tensor) -> Tensor:
        """Seen in a mirror, what faces right faces left."""
        return images.flip(-1) * constant((-1.0, 1.0, 1.0), images.device, images.dtype).view(3, 1, 1)
