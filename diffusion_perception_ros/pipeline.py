"""PerceptionPipeline: images in, typed predictions out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_perception_ros.memory import Memory
from diffusion_perception_ros.model.compile import compile_codec, compile_transformer
from diffusion_perception_ros.networks import Networks
from diffusion_perception_ros.parts import Parts
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.queries import Answers, Plan
from diffusion_perception_ros.request import Request, check_request, check_sample
from diffusion_perception_ros.sampling.denoise import denoise
from diffusion_perception_ros.sampling.samplers import SAMPLERS, check_steps
from diffusion_perception_ros.sampling.schedulers import scheduler_for
from diffusion_perception_ros.stage_times import StageTimes

Refine = Callable[[Sequence[Plan], list[Answers]], list[Answers]]

EMBEDDED = Path(__file__).with_name("weights")


class PerceptionPipeline(Parts):
    """The generalist with its image codec and noise schedule. Stateless between calls.

    What it is made of, how it is loaded and saved, see ``Parts``.

    Attributes:
        max_batch_size: Most pictures or samples that go through a network at once; it bounds memory.
    """

    max_batch_size = 16

    @classmethod
    def embedded(
        cls,
        device: str | torch.device = "auto",
        torch_dtype: torch.dtype = torch.float32,
        *,
        codec: str | Path | None = None,
        decoder: str | None = None,
    ) -> PerceptionPipeline:
        """The checkpoint that comes with the package: small, trained on generated scenes, a demonstration.

        ``weights/README.md`` says how it was trained and what it can do.
        """
        return cls.from_pretrained(EMBEDDED, device, torch_dtype, codec=codec, decoder=decoder)

    def compile(self, batch_sizes: Sequence[int] = (1,)) -> None:
        """Compile the networks for this device, in place; on CUDA each is then replayed as one graph.

        Takes a minute or more; another number of samples than these is compiled when it first comes. Where the
        compiler fails, a warning says so in one sentence and the transformer stays as it is. On a CPU the codec is not
        compiled.

        Args:
            batch_sizes: Numbers of samples to compile for now, such as one for depth, flow and an object each.
        """
        compile_codec(self.codec, self.device)
        compile_transformer(self.transformer, batch_sizes)

    @property
    def _networks(self) -> Networks:
        # Of this moment, because the pipeline's attributes may be set.
        return Networks(self.transformer, self.codec, self.scheduler_config, self.decoder, self.max_batch_size)

    @torch.no_grad()
    def sample(
        self,
        rgb: Tensor,
        prompt: Tensor,
        class_labels: Tensor,
        num_inference_steps: int,
        latents: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """One prediction per sample, computed exactly as the released code does.

        DDIM with the checkpoint's own scheduler config, whatever that gives at few steps: see the samplers of
        ``__call__`` for those that are made for few.

        Args:
            rgb: (B, 3, H, W) images in [-1, 1], of the checkpoint's resolution.
            prompt: (B, 3, H, W), by task: valid mask as 0 and 1, visible mask or next image in [-1, 1].
            class_labels: (B,) integer labels; a batch may mix tasks.
            num_inference_steps: Steps.
            latents: (B, C, h, w) initial noise, of the shape of a latent; drawn with ``generator`` where it is None.
            generator: Source of the noise.

        Returns:
            (B, 3, H, W), decoded, not clipped.

        Raises:
            InputError: Shapes or labels do not fit the checkpoint.
        """
        check_sample(self.metadata, self._networks.latent_shape, rgb, prompt, class_labels, latents)
        sampler = SAMPLERS["ddim"]
        check_steps(sampler, self.scheduler_config, num_inference_steps)
        rgb, prompt = (x.to(self.device, self.dtype) for x in (rgb, prompt))
        image_latents, prompt_latents = self.codec.encode(rgb), self.codec.encode(prompt)
        if latents is None:
            source = generator.device if generator is not None else self.device
            latents = torch.randn(image_latents.shape, generator=generator, device=source, dtype=torch.float32)
        scheduler = scheduler_for(sampler, self.scheduler_config)
        scheduler.set_timesteps(num_inference_steps)
        prediction = denoise(
            self.transformer,
            scheduler,
            torch.cat([image_latents, prompt_latents], dim=1),
            latents.to(self.device, self.dtype),
            class_labels.to(self.device),
        )
        return self.codec.decode(prediction)

    def request(
        self,
        image: NDArray[np.uint8],
        next_image: NDArray[np.uint8] | None = None,
        visible_masks: NDArray[np.integer] | None = None,
        **arguments: Any,
    ) -> Request:
        """The arguments of one call, checked, for ``batch``: those of ``__call__``.

        Raises:
            InputError: An argument is unusable; the message names it and the remedy.
        """
        return check_request(self.metadata, self.scheduler_config, image, next_image, visible_masks, **arguments)

    def __call__(
        self,
        image: NDArray[np.uint8],
        next_image: NDArray[np.uint8] | None = None,
        visible_masks: NDArray[np.integer] | None = None,
        *,
        tasks: Sequence[str] | None = None,
        num_inference_steps: int | None = None,
        sampler: str | None = None,
        ensemble_size: int = 1,
        flip_members: bool = False,
        aligner: str = "standardize",
        resize: str = "squash",
        seed: int = 0,
    ) -> PerceptionOutput:
        """See depth, motion and hidden shape in one image, its successor and its visible masks.

        Args:
            image: (H, W, 3) uint8 RGB.
            next_image: (H, W, 3) uint8 RGB, the frame after ``image``; needed for flow.
            visible_masks: (H, W) integer label image, 0 background, k the visible pixels of object k; needed
                for amodal.
            tasks: Names of tasks; by default all that the arguments allow.
            num_inference_steps: Steps; by default the checkpoint's.
            sampler: ``ddim``, ``ddim_trailing``, ``dpm_solver``, ``one_step`` or ``one_step_genpercept``; by
                default the checkpoint's.
            ensemble_size: Members, which differ in their noise. Three and more give an uncertainty.
            flip_members: Every second member sees its pictures mirrored.
            aligner: How depth members are aligned, ``standardize`` or ``released``.
            resize: ``squash`` or ``letterbox``.
            seed: Of the noise. Member m's noise is the same for every task and frame, which keeps noise from
                flickering over a video.

        Returns:
            Predictions at the input's resolution.

        Raises:
            InputError: An argument is unusable; the message names it and the remedy.
        """
        request = self.request(
            image, next_image, visible_masks, tasks=tasks, num_inference_steps=num_inference_steps, sampler=sampler,
            ensemble_size=ensemble_size, flip_members=flip_members, aligner=aligner, resize=resize, seed=seed,
        )  # fmt: skip
        return self.batch([request])[0]

    @torch.inference_mode()
    def batch(
        self, requests: Sequence[Request], memory: Memory | None = None, refine: Refine | None = None
    ) -> list[PerceptionOutput]:
        """Answer several requests at once: frames of several cameras, or several moments of one recording.

        What is equal in two of them is encoded once, and all their samples and decodings share batches, which on an
        accelerator take less time than one after the other. Each has its own size, tasks, masks and seed, and its
        answer is the one that it would have got alone, but for rounding.

        Args:
            requests: From ``request``.
            memory: What is known from before, of these networks, and will be remembered; see ``PerceptionStream``.
            refine: Called with the plans of the requests and the network's answers, from which it may make others.

        Returns:
            A prediction for each request; the ``stage_ms`` of each are the whole batch's.
        """
        if not requests:
            return []
        times = StageTimes(self.device)
        times.begin("encode")
        plans = [Plan(self.metadata, request) for request in requests]
        images = self._networks.answer([query for plan in plans for query in plan.queries], memory, times)
        parts = images.split([len(plan.queries) for plan in plans])
        answers = [plan.answers(part) for plan, part in zip(plans, parts, strict=True)]
        answers = refine(plans, answers) if refine else answers
        outputs = [plan.decode(answer) for plan, answer in zip(plans, answers, strict=True)]
        stage_ms = times.milliseconds()
        return [replace(output, stage_ms=stage_ms) for output in outputs]
