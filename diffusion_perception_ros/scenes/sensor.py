"""From radiance to 8-bit images: exposure, blur, vignetting, noise and the tone curve."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from diffusion_perception_ros.scenes.scene import Scene

_TAPS = 3


def expose(radiance: Tensor, scenes: Sequence[Scene], times: Sequence[int], ideal: bool) -> Tensor:
    """(F, H, W, 3) uint8 of (3, F, H, W) linear radiance.

    Args:
        radiance: Linear RGB.
        scenes: Scene of each frame.
        times: Time of each frame; with the scene's seed it seeds the noise.
        ideal: Without blur and noise.
    """
    device = radiance.device
    height, width = radiance.shape[2:]
    sensors = [scene.sensor for scene in scenes]

    def tensor(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]

    gain = np.stack([sensor.exposure * sensor.white_balance for sensor in sensors], -1)
    image = radiance * torch.from_numpy(gain.astype(np.float32)).to(device)[..., None, None]
    if not ideal:
        image = _blur(image, tensor([sensor.blur * width / 128 for sensor in sensors]))
    y = torch.linspace(-1, 1, height, device=device)[:, None] ** 2
    x = torch.linspace(-1, 1, width, device=device) ** 2
    image = image * (1 - tensor([sensor.vignette for sensor in sensors]) * (x + y) / 2)
    # A film-like shoulder: highlights are compressed instead of cut.
    image = image.clamp(min=1e-6)
    image = image / (1 + image**3) ** (1 / 3)
    image = image ** tensor([sensor.gamma for sensor in sensors])
    if not ideal:
        shot = tensor([sensor.shot_noise for sensor in sensors])
        read = tensor([sensor.read_noise for sensor in sensors])
        noise = torch.stack(
            [_noise(scene.seed, time, height, width) for scene, time in zip(scenes, times, strict=True)], 1
        )
        image = image + noise.to(device) * (read**2 + shot * image).sqrt()
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 3, 0).contiguous()


def _blur(image: Tensor, deviation: Tensor) -> Tensor:
    """Convolve with separable Gaussians, one for each frame."""
    offsets = torch.arange(-_TAPS, _TAPS + 1, device=image.device)
    weights = torch.exp(-0.5 * (offsets / deviation.clamp(min=0.05)) ** 2)
    weights = (weights / weights.sum(-1, keepdim=True))[..., None]
    for axis in (2, 3):
        size = image.shape[axis]
        indices = torch.arange(size, device=image.device)
        image = sum(
            (
                image.index_select(axis, (indices + offset).clamp(0, size - 1)) * weights[:, :, k]
                for k, offset in enumerate(range(-_TAPS, _TAPS + 1))
            ),
            start=torch.zeros_like(image),
        )
    return image


def _noise(seed: int, time: int, height: int, width: int) -> Tensor:
    generator = np.random.default_rng([seed, time, 1])
    return torch.from_numpy(generator.standard_normal((3, height, width), dtype=np.float32))
