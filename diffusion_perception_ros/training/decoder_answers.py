"""What a checkpoint answers in one step, as a decoder reads it and as the codec's decoder shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffusion_perception_ros.model.transformer import Features
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.sampling.denoise import denoise
from diffusion_perception_ros.sampling.samplers import SAMPLERS
from diffusion_perception_ros.training.batches import Questions
from diffusion_perception_ros.training.decoder_config import DecoderConfig


@dataclass(frozen=True)
class Answer:
    """Of a batch, task by task, of each the questions, then the labels.

    Attributes:
        labels: (B,) class labels.
        read: What the decoder reads: (B, C, h, w) latents or the features of its layers.
        taught: (B, 3, R, R) what the codec's decoder makes of the same answer; None where nobody asks.
    """

    labels: Tensor
    read: Tensor | Features
    taught: Tensor | None


class Answers:
    """Asks the checkpoint, which learns nothing from it.

    Args:
        config: Of the run.
        pipe: The checkpoint.
    """

    def __init__(self, config: DecoderConfig, pipe: PerceptionPipeline) -> None:
        self.config = config
        self.pipe = pipe
        self._scheduler = SAMPLERS["ddim_trailing"].scheduler(pipe.scheduler_config)

    @torch.no_grad()
    def __call__(self, batch: Sequence[Questions], rng: np.random.Generator) -> Answer:
        """One step from noise, or from zeros, on every question."""
        loss, decoder, device = self.config.loss, self.config.decoder, self.pipe.device
        counts = [questions.target.images.shape[:2] for questions in batch]
        labels = torch.cat(
            [
                torch.tensor(self.config.tasks[questions.task].labels, device=device).repeat(count)
                for questions, (count, _) in zip(batch, counts, strict=True)
            ]
        )
        is_half = self.config.precision == "bf16"
        with torch.autocast(device.type, torch.bfloat16, enabled=is_half):
            conditions = torch.cat([self._conditions(questions) for questions in batch])
            noise = self._noise(counts, rng)
            if decoder.kind == "features":
                return self._features(conditions, noise, labels)
            latents = self._denoise(conditions, noise, labels)
            true = torch.cat([self.pipe.codec.encode(q.target.images.flatten(0, 1)) for q in batch])
            is_true = torch.from_numpy(rng.random(len(latents)) < loss.truth_share).to(device)
            latents = torch.where(is_true.view(-1, 1, 1, 1), true, latents).float()
            return Answer(labels, latents, self.pipe.codec.decode(latents) if loss.distillation else None)

    def _features(self, conditions: Tensor, noise: Tensor, labels: Tensor) -> Answer:
        """The features, and what the rest of the network and the codec make of them."""
        transformer, layers = self.pipe.transformer, self.config.decoder.layers
        teaches = bool(self.config.loss.distillation)
        last = len(transformer.blocks) - 1
        wanted = tuple(dict.fromkeys((*layers, last))) if teaches else layers
        self._scheduler.set_timesteps(1)
        timestep = self._scheduler.timesteps[0].to(noise.device)
        features = transformer.features(torch.cat([conditions, noise], dim=1), timestep, labels, wanted)
        taught = None
        if teaches:
            output = transformer.predict(features)[:, : self.pipe.codec.latent_channels]
            taught = self.pipe.codec.decode(
                self._scheduler.step(output.float(), self._scheduler.timesteps[0], noise).pred_original_sample
            )
        tokens = features.tokens[: len(layers)]
        return Answer(labels, Features(features.condition, tokens, features.stem, features.compared), taught)

    def _denoise(self, conditions: Tensor, noise: Tensor, labels: Tensor) -> Tensor:
        self._scheduler.set_timesteps(1)
        return denoise(self.pipe.transformer, self._scheduler, conditions, noise, labels, one_step=True)

    def _conditions(self, questions: Questions) -> Tensor:
        """(questions * labels, 2 C, h, w) latents of image and prompt."""
        pictures = torch.cat([questions.image, questions.prompt])
        latents = torch.cat(self.pipe.codec.encode(pictures).chunk(2), dim=1)
        return latents.repeat_interleave(questions.target.images.shape[1], dim=0)

    def _noise(self, counts: Sequence[Sequence[int]], rng: np.random.Generator) -> Tensor:
        """(B, C, h, w), shared by the labels of a question."""
        codec, device = self.pipe.codec, self.pipe.device
        side = self.pipe.metadata.resolution // codec.downscale
        noise = []
        for count, num_labels in counts:
            each = torch.from_numpy(rng.standard_normal((count, codec.latent_channels, side, side), dtype=np.float32))
            each[: round(self.config.loss.zeros_share * count)] = 0
            noise.append(each.repeat_interleave(num_labels, dim=0))
        return torch.cat(noise).to(device)
