"""Denoising that begins in the middle, at what is expected, rather than at noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.sampling.samplers import Sampler, check_steps


def check_warm_start(sampler: Sampler, scheduler_config: Mapping[str, Any], num_inference_steps: int) -> None:
    """Refuse a sampler that has no middle.

    Raises:
        InputError: The sampler does not go from noise through the middle, or has not twice as many steps.
    """
    # With leading spacing the second of two steps is the one at t = 1.
    is_leading = sampler.name == "ddim" and scheduler_config.get("timestep_spacing", "leading") != "trailing"
    if sampler.initial_latent != "noise" or is_leading:
        raise InputError(
            f"a warm start needs a sampler whose steps go from noise through the middle, unlike {sampler.name!r}; use "
            "'ddim_trailing', or temporal 'moving_average'."
        )
    check_steps(sampler, scheduler_config, 2 * num_inference_steps)


def warm_start(scheduler: Any, num_inference_steps: int, start: Tensor, noise: Tensor) -> tuple[Tensor, int]:
    """Renoise what is expected to the middle of the schedule.

    The sampler then takes the second half of twice as many steps (SDEdit, Meng et al. 2022, arXiv 2108.01073, with
    strength 0.5).

    Args:
        scheduler: A diffusers scheduler, whose timesteps are set here.
        num_inference_steps: Steps that are then taken.
        start: (B, C, h, w) clean latents, NaN where nothing is known: noise stays there.
        noise: (B, C, h, w).

    Returns:
        (B, C, h, w) latents, and the index of the timestep that they are at.
    """
    scheduler.set_timesteps(2 * num_inference_steps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(num_inference_steps)
    alpha = float(scheduler.alphas_cumprod[int(scheduler.timesteps[num_inference_steps])])
    renoised = alpha**0.5 * start + (1 - alpha) ** 0.5 * noise
    return torch.where(start.isnan(), noise, renoised).to(noise.dtype), num_inference_steps
