"""The last frame of a camera, as far as the next one needs it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_perception_ros.request import Request
from diffusion_perception_ros.tasks.geometry import Geometry
from diffusion_perception_ros.temporal.agreement import agreement
from diffusion_perception_ros.temporal.splatting import nearness, splat


@dataclass(frozen=True, eq=False)
class Past:
    """What a frame showed and what was said of it, in the part of the network's square that the image covers.

    Attributes:
        request: What was asked.
        geometry: From its image to the network's square.
        image: (3, h, w) in [-1, 1].
        depth: (M, h, w) network values of each ensemble member.
        count: (h, w) how many frames they are the mean of.
    """

    request: Request
    geometry: Geometry
    image: Tensor
    depth: Tensor
    count: Tensor

    def carry(self, image: Tensor, flow: Tensor, members: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Seen from the next frame.

        Args:
            image: (3, h, w) the next frame.
            flow: (2, h, w) pixels of the network's square, from this frame to that.
            members: Of the next frame's ensemble.

        Returns:
            (members, h, w) depth, (h, w) count, (h, w) agreement, and whether the scene goes on, see `agreement`.
        """
        depth = self.depth
        if len(depth) != members:  # of an ensemble that was shed, for example
            depth = depth.mean(dim=0, keepdim=True).expand(members, -1, -1)
        values = torch.cat([depth, self.count[None], self.image])[None]
        moved, coverage = splat(values, flow[None], nearness(depth.mean(dim=0, keepdim=True)))
        agree, goes_on = agreement(moved[0, -3:], image, coverage[0])
        return moved[0, :members], moved[0, members], agree, goes_on


def follows(request: Request, before: Request) -> bool:
    """Whether a request is about a later frame of the same scene, as far as that can be told without looking."""
    named = request.frame is not None and before.frame is not None
    same_size = request.image.shape == before.image.shape and request.resize == before.resize
    return named and same_size and request.segment == before.segment
