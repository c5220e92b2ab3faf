"""Frames with their truth, as a source gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_perception_ros.tasks import Truth


@dataclass(frozen=True)
class Frames:
    """B images and what is known about them, of the resolution that the network sees.

    Attributes:
        image: (B, 3, R, R) in [0, 1].
        next_image: (B, 3, R, R) in [0, 1]; the image itself where flow is not known.
        truth: Of the images.
    """

    image: Tensor
    next_image: Tensor
    truth: Truth

    def __getitem__(self, frames: slice | Tensor) -> Frames:
        """Some of the frames."""
        return Frames(self.image[frames], self.next_image[frames], self.truth[frames])

    @classmethod
    def cat(cls, parts: Sequence[Frames]) -> Frames:
        """The frames of each, one after the other."""
        return cls(
            torch.cat([part.image for part in parts]),
            torch.cat([part.next_image for part in parts]),
            Truth.cat([part.truth for part in parts]),
        )

    def to(self, device: torch.device) -> Frames:
        """On a device."""
        truth = self.truth.map(lambda field: field.to(device))
        return Frames(self.image.to(device), self.next_image.to(device), truth)
