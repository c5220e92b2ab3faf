"""The forward diffusion: noise, how much of it at which timestep, and what the network is to say about it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from torch import Tensor

from diffusion_perception_ros.training.generalist_config import DiffusionConfig


class NoiseSchedule:
    """A variance-preserving schedule: x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise, with a_T = 0.

    Args:
        config: Of the schedule.
        device: Where timesteps and latents are.
    """

    def __init__(self, config: DiffusionConfig, device: torch.device) -> None:
        scheduler = DDIMScheduler.from_config(config.scheduler_config())
        self.alphas: Tensor = scheduler.alphas_cumprod.to(device)
        self.last_timestep = len(self.alphas) - 1
        self.prediction_type = config.prediction_type

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """(B, C, h, w) latents at (B,) timesteps."""
        alpha = self._alpha(timestep)
        return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise

    def target(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """What the network should predict: the clean latent or v (Salimans & Ho 2022)."""
        if self.prediction_type == "sample":
            return clean
        alpha = self._alpha(timestep)
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * clean

    def clean(self, prediction: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        """The clean latent that a prediction amounts to."""
        if self.prediction_type == "sample":
            return prediction
        alpha = self._alpha(timestep)
        return alpha.sqrt() * noisy - (1 - alpha).sqrt() * prediction

    def _alpha(self, timestep: Tensor) -> Tensor:
        return self.alphas[timestep].view(-1, 1, 1, 1)


def white_noise(size: Sequence[int], device: torch.device, rng: np.random.Generator) -> Tensor:
    """Standard normal, drawn on the device; the same numbers for the same ``rng`` on one kind of device."""
    generator = torch.Generator(device).manual_seed(int(rng.integers(1 << 62)))
    return torch.randn(tuple(size), generator=generator, device=device)


def multi_resolution_noise(noise: Tensor, strength: Tensor, rng: np.random.Generator) -> Tensor:
    """Noise with more power in low frequencies, of unit variance (Ke et al. 2024, Marigold, arXiv 2312.02145).

    Args:
        noise: (B, C, h, w) standard normal.
        strength: (B,) from 0, which leaves the noise as it is, to 1; annealed, if it is larger at noisier timesteps.
        rng: Source of the coarser noise.
    """
    total, variance = noise, torch.ones_like(strength)
    height, width = noise.shape[-2:]
    level = 0
    while min(height, width) > 1:
        level += 1
        shrink = rng.uniform(2, 4)
        height, width = max(1, int(height / shrink)), max(1, int(width / shrink))
        coarse = white_noise((*noise.shape[:2], height, width), noise.device, rng)
        fine = F.interpolate(coarse, size=noise.shape[-2:], mode="nearest")
        total = total + fine * (strength**level).view(-1, 1, 1, 1)
        variance = variance + strength ** (2 * level)
    normalized: Tensor = total / variance.sqrt().view(-1, 1, 1, 1)
    return normalized
