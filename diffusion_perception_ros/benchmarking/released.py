"""Perception the released way: one task, one image at a time, everything anew, in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_perception_ros.benchmarking.released_network import ReleasedTransformer
from diffusion_perception_ros.model.codec import ImageCodec
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.queries import Plan, Query, draw_noise, initial_latents, render


class ReleasedPipeline:
    """The same weights and the same predictions, for the time that they take.

    Every image of an answer, so also dx and dy of flow apart, is a run of its own: image and prompt are encoded, each
    step is a forward pass of one sample, and the result is decoded.

    Args:
        pipe: Whose weights, noise schedule and tasks these are.
        codec: The image codec, in float32.
    """

    def __init__(self, pipe: PerceptionPipeline, codec: ImageCodec) -> None:
        self._pipe = pipe
        self._network = ReleasedTransformer(pipe.transformer)
        self._codec = codec

    @torch.inference_mode()
    def __call__(
        self,
        image: NDArray[np.uint8],
        next_image: NDArray[np.uint8] | None = None,
        visible_masks: NDArray[np.integer[Any]] | None = None,
        **arguments: Any,
    ) -> PerceptionOutput:
        """See ``PerceptionPipeline.__call__``; without ``stage_ms``."""
        request = self._pipe.request(image, next_image, visible_masks, **arguments)
        plan = Plan(self._pipe.metadata, request)
        return plan.decode(plan.answers(torch.cat([self._answer(query) for query in plan.queries])))

    def _answer(self, query: Query) -> Tensor:
        """(1, 3, R, R), decoded."""
        device = self._pipe.device
        image, prompt = (self._codec.encode(render([view], device)[0][None]) for view in (query.image, query.prompt))
        _, channels, height, width = image.shape
        latents = initial_latents([query], image, draw_noise([query], (channels, height, width), device, image.dtype))
        label = torch.tensor([query.label], device=device)
        sampler = query.request.sampler
        scheduler = sampler.scheduler(self._pipe.scheduler_config)
        scheduler.set_timesteps(query.request.num_inference_steps)
        for timestep in scheduler.timesteps:
            output = self._network(torch.cat([image, prompt, latents], dim=1), timestep.to(device), label)
            step = scheduler.step(output[:, :channels], timestep, latents)
            latents = step.pred_original_sample if sampler.one_step else step.prev_sample
        return self._codec.decode(latents)
