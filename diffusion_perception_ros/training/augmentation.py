"""Changes of a sample that leave its meaning: mirror images, brightness, contrast and colour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from diffusion_perception_ros.tasks import Truth
from diffusion_perception_ros.training.frames import Frames


def mirror(image: Tensor, mirrored: Tensor) -> Tensor:
    """(B, ..., W) with those rows flipped left to right that (B,) bool says."""
    return torch.where(mirrored.view(-1, *[1] * (image.ndim - 1)), image.flip(-1), image)


def mirror_truth(truth: Truth, mirrored: Tensor) -> Truth:
    """As the frames are mirrored; motion to the right is then motion to the left, and so is what faces right."""
    sign = torch.where(mirrored, -1.0, 1.0).view(-1, 1, 1)

    def turn(vectors: Tensor) -> Tensor:
        return torch.cat([(vectors[:, 0] * sign)[:, None], vectors[:, 1:]], dim=1)

    truth = truth.map(lambda field: mirror(field, mirrored))
    normals = None if truth.normals is None else turn(truth.normals)
    return replace(truth, flow=turn(truth.flow), normals=normals)


def mirror_frames(frames: Frames, mirrored: Tensor) -> Frames:
    """Images and truth, those of the frames that (B,) bool says."""
    image, next_image = (mirror(picture, mirrored) for picture in (frames.image, frames.next_image))
    return Frames(image, next_image, mirror_truth(frames.truth, mirrored))


def photometric(frames: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Another exposure, tone curve, white balance and saturation, almost the same for both images.

    The instance's appearance changes as the image does, on a background that stays white.

    Args:
        frames: The samples.
        strength: 1 for changes as between cameras, 0 for none.
        rng: What changes.
    """
    batch, device = len(frames.image), frames.image.device

    def factor(deviation: float, channels: int = 1) -> Tensor:
        exponent = rng.normal(0, deviation * strength, (batch, channels, 1, 1))
        return torch.from_numpy(np.exp(exponent).astype(np.float32)).to(device)

    gain, exponent, balance, saturation = factor(0.2), factor(0.2), factor(0.06, 3), factor(0.3)

    def change(picture: Tensor, flicker: Tensor | float = 1.0) -> Tensor:
        tone = (picture.clamp_min(1e-4) ** exponent) * (gain * balance * flicker)
        grey = tone.mean(dim=1, keepdim=True)
        return (grey + saturation * (tone - grey)).clamp(0, 1)

    truth = frames.truth
    if truth.appearance is not None:
        appearance = torch.where(truth.amodal[:, None], change(truth.appearance), 1.0)
        truth = replace(truth, appearance=appearance)
    return Frames(change(frames.image), change(frames.next_image, factor(0.03)), truth)
