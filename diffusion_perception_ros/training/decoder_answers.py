"""What a checkpoint is asked in one step, and what decoder and checkpoint make of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from diffusion_perception_ros.model.decoders import PerceptionDecoder
from diffusion_perception_ros.model.transformer import DiTMoETransformer
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.sampling.samplers import SAMPLERS
from diffusion_perception_ros.training.batches import Questions
from diffusion_perception_ros.training.decoder_config import DecoderConfig
from diffusion_perception_ros.training.noise import white_noise


@dataclass(frozen=True)
class Inputs:
    """Of a batch: task by task, of each the questions, then the labels.

    Attributes:
        labels: (B,) class labels.
        x: (B, 3 C, h, w) latents of image and prompt, and noise.
        timestep: () the first of a sampler with trailing spacing.
    """

    labels: Tensor
    x: Tensor
    timestep: Tensor


class Decoded(NamedTuple):
    """What is made of it.

    Attributes:
        images: (B, 1 or 3, R, R) from the decoder.
        output: (B, out_channels, h, w) of the transformer, which the codec decodes; None where nobody asks.
        stem: The last features of a stem of the decoder's own and of the transformer's; None without.
    """

    images: Tensor
    output: Tensor | None
    stem: tuple[Tensor, Tensor] | None


class _Fixed:
    """A module that is neither trained nor saved nor copied with its user."""

    def __init__(self, module: DiTMoETransformer) -> None:
        self.module = module

    def __deepcopy__(self, memo: dict[int, Any]) -> _Fixed:
        return self


class DecoderNetwork(nn.Module):
    """A decoder behind the transformer whose answers it decodes.

    Args:
        decoder: What is trained.
        transformer: What is not.
    """

    def __init__(self, decoder: PerceptionDecoder, transformer: DiTMoETransformer) -> None:
        super().__init__()
        self.decoder = decoder
        self._fixed = _Fixed(transformer)

    def forward(self, labels: Tensor, x: Tensor, timestep: Tensor | None = None, teaches: bool = False) -> Decoded:
        """Decode a batch.

        Args:
            labels: (B,) class labels.
            x: (B, 3 C, h, w) input of the transformer; for a decoder of latents (B, C, h, w) latents.
            timestep: Of the input.
            teaches: Whether the transformer's own output is wanted, too.
        """
        decoder, transformer = self.decoder, self._fixed.module
        if timestep is None:
            return Decoded(decoder(labels, x), None, None)
        with torch.no_grad():
            condition = transformer.condition(timestep.reshape(-1), labels)
        if decoder.stem is None:
            last = len(transformer.blocks) - 1
            layers = (*decoder.layers, last) if teaches else decoder.layers
            with torch.no_grad():
                features = transformer.features(x, condition, labels, layers)
                output = transformer.predict(features) if teaches else None
            return Decoded(decoder(labels, features), output, None)
        with torch.no_grad():
            taught = transformer.features(x, condition, labels)
            output = transformer.predict(taught) if teaches else None
        features = transformer.features(x, condition, labels, decoder.layers, decoder.stem)
        return Decoded(decoder(labels, features), output, (features.stem[-1], taught.stem[-1]))


class Asking:
    """Asks the checkpoint as a user asks.

    Args:
        config: Of the run.
        pipe: The checkpoint.
    """

    def __init__(self, config: DecoderConfig, pipe: PerceptionPipeline) -> None:
        self.config = config
        self.pipe = pipe
        self._scheduler = SAMPLERS["ddim_trailing"].scheduler(pipe.scheduler_config)

    @torch.no_grad()
    def inputs(self, batch: Sequence[Questions], rng: np.random.Generator) -> Inputs:
        """Every question in one step from noise, or from zeros."""
        self._scheduler.set_timesteps(1)
        labels, x = [], []
        for questions in batch:
            own = self.config.tasks[questions.task].labels
            count = len(questions.image)
            pictures = torch.cat([questions.image, questions.prompt])
            conditions = torch.cat(self.pipe.codec.encode(pictures).chunk(2), dim=1)
            noise = white_noise((count, *self._latent(conditions)), conditions.device, rng)
            noise[: round(self.config.loss.zeros_share * count)] = 0
            asked = torch.cat([conditions, noise], dim=1)
            x.append(asked.repeat_interleave(len(own), dim=0))
            labels.append(torch.tensor(own, device=self.pipe.device).repeat(count))
        return Inputs(torch.cat(labels), torch.cat(x), self._scheduler.timesteps[0].to(self.pipe.device))

    @torch.no_grad()
    def latents(self, batch: Sequence[Questions], inputs: Inputs, rng: np.random.Generator) -> Tensor:
        """(B, C, h, w) for a decoder of latents: the checkpoint's answers, and the truth's own for some questions."""
        truth = torch.cat([self.pipe.codec.encode(questions.target.images.flatten(0, 1)) for questions in batch])
        is_true = torch.from_numpy(rng.random(len(truth)) < self.config.loss.truth_share).to(truth.device)
        is_half = self.config.precision == "bf16"
        with torch.autocast(truth.device.type, torch.bfloat16, enabled=is_half):
            output = self.pipe.transformer(inputs.x, inputs.timestep, inputs.labels).sample
        return torch.where(is_true.view(-1, 1, 1, 1), truth, self.clean(output, inputs))

    @torch.no_grad()
    def clean(self, output: Tensor, inputs: Inputs) -> Tensor:
        """(B, C, h, w) latents that the transformer's output of one step amounts to."""
        channels = self.pipe.codec.latent_channels
        noise = inputs.x[:, -channels:]
        step = self._scheduler.step(output[:, :channels].float(), self._scheduler.timesteps[0], noise)
        clean: Tensor = step.pred_original_sample
        return clean

    def _latent(self, conditions: Tensor) -> tuple[int, int, int]:
        return self.pipe.codec.latent_channels, conditions.shape[2], conditions.shape[3]
