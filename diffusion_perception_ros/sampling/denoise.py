"""The denoising loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffusion_perception_ros.model.transformer import DiTMoETransformer

_STEPS_AT_ONCE = 25


def denoise(
    transformer: DiTMoETransformer,
    scheduler: Any,
    conditions: Tensor,
    latents: Tensor,
    class_labels: Tensor,
    *,
    one_step: bool = False,
) -> Tensor:
    """From the initial latent to the predicted one.

    The scheduler keeps its timesteps and coefficients on the host, as zero-dimensional tensors that enter
    the kernels as scalars, so that no step waits for the device.

    Args:
        transformer: The network.
        scheduler: A diffusers scheduler with its timesteps set, on the host.
        conditions: (B, 2C, h, w), image latent then prompt latent.
        latents: (B, C, h, w), the third slot's initial value.
        class_labels: (B,) on the device.
        one_step: Return the first step's estimate of the clean latent.

    Returns:
        (B, C, h, w).
    """
    channels = latents.shape[1]
    model_input = torch.cat([conditions, latents], dim=1)
    target_slot = model_input[:, -channels:]
    device_timesteps = scheduler.timesteps.to(latents.device)
    for i, timestep in enumerate(scheduler.timesteps):
        # What timesteps and labels alone decide, for many steps at once: few large matrix products, in bounded memory.
        if i % _STEPS_AT_ONCE == 0:
            schedule = device_timesteps[i : i + _STEPS_AT_ONCE, None]
            modulations = transformer.modulations(schedule, class_labels)
        target_slot.copy_(latents)
        modulation = modulations.step(i % _STEPS_AT_ONCE)
        output = transformer(model_input, device_timesteps[i], class_labels, modulation).sample[:, :channels]
        step = scheduler.step(output, timestep, latents)
        if one_step:
            estimate: Tensor = step.pred_original_sample
            return estimate
        latents = step.prev_sample
    return latents
