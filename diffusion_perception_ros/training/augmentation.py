"""Changes of a sample that leave its meaning: mirror images, brightness, contrast and colour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from diffusion_perception_ros.tasks import Truth


def mirror(image: Tensor, mirrored: Tensor) -> Tensor:
    """(B, ..., W) with those rows flipped left to right that (B,) bool says."""
    return torch.where(mirrored.view(-1, *[1] * (image.ndim - 1)), image.flip(-1), image)


def mirror_truth(truth: Truth, mirrored: Tensor) -> Truth:
    """As the frames are mirrored; motion to the right is then motion to the left."""
    sign = torch.where(mirrored, -1.0, 1.0).view(-1, 1, 1)
    flow = mirror(truth.flow, mirrored)
    flow = torch.stack([flow[:, 0] * sign, flow[:, 1]], dim=1)
    names = ("depth", "flow_valid", "visible", "amodal")
    return replace(truth, flow=flow, **{name: mirror(getattr(truth, name), mirrored) for name in names})


def photometric(image: Tensor, next_image: Tensor, strength: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Another exposure, tone curve, white balance and saturation, almost the same for both frames.

    Args:
        image: (B, 3, H, W) in [0, 1].
        next_image: (B, 3, H, W) in [0, 1].
        strength: 1 for changes as between cameras, 0 for none.
        rng: What changes.
    """
    batch = len(image)

    def factor(deviation: float, channels: int = 1) -> Tensor:
        exponent = rng.normal(0, deviation * strength, (batch, channels, 1, 1))
        return torch.from_numpy(np.exp(exponent).astype(np.float32)).to(image.device)

    gain, exponent, balance, saturation = factor(0.2), factor(0.2), factor(0.06, 3), factor(0.3)
    changed = []
    for frame, flicker in ((image, 1.0), (next_image, factor(0.03))):
        tone = (frame.clamp_min(1e-4) ** exponent) * (gain * balance * flicker)
        grey = tone.mean(dim=1, keepdim=True)
        changed.append((grey + saturation * (tone - grey)).clamp(0, 1))
    return changed[0], changed[1]
