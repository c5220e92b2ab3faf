"""The denoising loop."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diffusion_perception_ros.constants import constant
from diffusion_perception_ros.model.decoders import PerceptionDecoder
from diffusion_perception_ros.model.embeddings import Condition
from diffusion_perception_ros.model.transformer import DiTMoETransformer, Features

_STEPS_AT_ONCE = 25
# Of longer schedules the modulations are not kept: of the released size those of 50 steps and ten objects are 250 MB.
_STEPS_KEPT = 4

Known = Callable[[Hashable, Callable[[], Any]], Any]
"""What timesteps, by which it is called, and the batch's labels make: from before, or else made by the function."""


def _unknown(timesteps: Hashable, make: Callable[[], Any]) -> Any:
    return make()


def denoise(
    transformer: DiTMoETransformer,
    scheduler: Any,
    conditions: Tensor,
    latents: Tensor,
    class_labels: Tensor,
    *,
    one_step: bool = False,
    first: int = 0,
    known: Known = _unknown,
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
        first: Index of the timestep that the initial latent is at.
        one_step: Return the first step's estimate of the clean latent.
        known: Knows modulations of these labels from before.

    Returns:
        (B, C, h, w).
    """
    channels = latents.shape[1]
    model_input = torch.cat([conditions, latents], dim=1)
    target_slot = model_input[:, -channels:]
    device_timesteps = constant(tuple(scheduler.timesteps.tolist()), latents.device, scheduler.timesteps.dtype)
    if len(scheduler.timesteps) - first > _STEPS_KEPT:
        known = _unknown
    for i, timestep in enumerate(scheduler.timesteps[first:], first):
        modulation = None
        if transformer.modulates_ahead:
            # What timesteps and labels alone decide, for many steps at once: few large products, in bounded memory.
            position = (i - first) % _STEPS_AT_ONCE
            if not position:
                steps = slice(i, i + _STEPS_AT_ONCE)
                schedule = device_timesteps[steps, None]
                modulations = known(
                    tuple(scheduler.timesteps[steps].tolist()),
                    partial(transformer.modulations, schedule, class_labels),
                )
            modulation = modulations.step(position)
        target_slot.copy_(latents)
        output = transformer(model_input, device_timesteps[i], class_labels, modulation).sample[:, :channels]
        step = scheduler.step(output, timestep, latents)
        if one_step:
            estimate: Tensor = step.pred_original_sample
            return estimate
        latents = step.prev_sample
    return latents


def first_features(
    transformer: DiTMoETransformer,
    scheduler: Any,
    conditions: Tensor,
    latents: Tensor,
    class_labels: Tensor,
    decoder: PerceptionDecoder,
    *,
    first: int = 0,
    known: Known = _unknown,
) -> Features:
    """What the network makes of the first step, for a decoder that reads it; see ``denoise`` for the arguments.

    Args:
        transformer: See there.
        scheduler: See there.
        conditions: See there.
        latents: See there.
        class_labels: See there.
        decoder: Says which blocks, and may have a stem of its own.
        first: See there.
        known: Knows the condition of these labels from before.
    """
    timestep = scheduler.timesteps[first]

    def condition() -> Condition:
        return transformer.condition(timestep.to(latents.device).reshape(1), class_labels)

    model_input = torch.cat([conditions, latents], dim=1)
    return transformer.features(
        model_input, known(timestep.item(), condition), class_labels, decoder.layers, decoder.stem
    )
