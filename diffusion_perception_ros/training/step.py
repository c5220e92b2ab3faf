"""One training step's losses: all tasks through the network in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from diffusion_perception_ros.model.codec import ImageCodec
from diffusion_perception_ros.tasks import Target, Truth
from diffusion_perception_ros.training.balance import LoadBalance
from diffusion_perception_ros.training.batches import Questions
from diffusion_perception_ros.training.config import TrainingConfig
from diffusion_perception_ros.training.losses import diffusion_loss, find_image_loss
from diffusion_perception_ros.training.noise import NoiseSchedule, multi_resolution_noise


@dataclass(frozen=True)
class _Noisy:
    """The third latent of one task's samples, (B, labels, C, h, w), and what it was made from."""

    clean: Tensor
    noise: Tensor
    timestep: Tensor
    latent: Tensor


class Losses:
    """What a batch costs.

    Args:
        config: Of the run.
        codec: The image codec.
        schedule: The noise schedule.
        balance: Watches the routers of the network.
    """

    def __init__(
        self, config: TrainingConfig, codec: ImageCodec, schedule: NoiseSchedule, balance: LoadBalance
    ) -> None:
        self.config = config
        self.codec = codec
        self.schedule = schedule
        self.balance = balance
        self._image_losses = {name: find_image_loss(task.encoding()) for name, task in config.tasks.items()}

    def __call__(
        self, network: nn.Module, batch: Sequence[Questions], rng: np.random.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and its parts without their weights."""
        noisy = [self._diffuse(questions, rng) for questions in batch]
        inputs, timesteps, labels = [], [], []
        for questions, third in zip(batch, noisy, strict=True):
            own = self.config.tasks[questions.task].labels
            pictures = torch.cat([questions.image, questions.prompt])
            conditions = torch.cat(self.codec.encode(pictures).chunk(2), dim=1).unsqueeze(1)
            inputs.append(torch.cat([conditions.expand(-1, len(own), -1, -1, -1), third.latent], dim=2).flatten(0, 1))
            timesteps.append(third.timestep.repeat_interleave(len(own)))
            labels.append(third.timestep.new_tensor(own).repeat(len(questions.image)))
        output = network(torch.cat(inputs), torch.cat(timesteps), torch.cat(labels)).sample.float()
        outputs = output[:, : self.codec.latent_channels].split([len(x) for x in inputs])

        parts: dict[str, Tensor] = {"balance": torch.as_tensor(self.balance.take(), device=output.device)}
        total = self.config.loss.balance * parts["balance"]
        samples = len(output)
        for questions, third, answer in zip(batch, noisy, outputs, strict=True):
            shaped = answer.unflatten(0, third.latent.shape[:2])
            for kind, loss in self._of_task(questions, third, shaped).items():
                parts[f"{questions.task}_{kind}"] = loss.mean()
                # A loss is a mean over the batch's samples, so that shares weigh as they are set.
                share = len(loss) * third.latent.shape[1] / samples
                total = total + self.config.tasks[questions.task].weight * share * loss.mean()
        return total, parts

    def _one_step(self, count: int) -> int:
        """How many of so many questions are at t = T; they come first."""
        return round(self.config.loss.one_step_share * count)

    def _diffuse(self, questions: Questions, rng: np.random.Generator) -> _Noisy:
        """All samples of a question share timestep and noise, as they do when the question is asked in earnest."""
        images = questions.target.images
        count, num_labels = images.shape[:2]
        clean = self.codec.encode(images.flatten(0, 1))
        one_step, last = self._one_step(count), self.schedule.last_timestep
        timestep = torch.from_numpy(rng.integers(0, last + 1, count)).to(clean.device)
        timestep[:one_step] = last
        noise = torch.from_numpy(rng.standard_normal((count, *clean.shape[1:]), dtype=np.float32)).to(clean.device)
        if self.config.diffusion.multi_resolution_noise:
            strength = self.config.diffusion.multi_resolution_noise * timestep / last
            strength[:one_step] = 0  # samplers start from white noise
            noise = multi_resolution_noise(noise, strength, rng)
        noise[: round(self.config.loss.zeros_share * one_step)] = 0
        noise, timesteps = noise.repeat_interleave(num_labels, dim=0), timestep.repeat_interleave(num_labels)
        latent = self.schedule.add_noise(clean, noise, timesteps)
        clean, noise, latent = (x.unflatten(0, (count, num_labels)) for x in (clean, noise, latent))
        return _Noisy(clean, noise, timestep, latent)

    def _of_task(self, questions: Questions, third: _Noisy, answer: Tensor) -> dict[str, Tensor]:
        """(B,) losses by their kind."""
        losses = {}
        one_step, num_labels = self._one_step(len(answer)), answer.shape[1]
        if one_step:
            now = slice(0, one_step)
            timestep = third.timestep[now].repeat_interleave(num_labels)
            clean = self.schedule.clean(answer[now].flatten(0, 1), third.latent[now].flatten(0, 1), timestep)
            images = self.codec.decode(clean).unflatten(0, (one_step, num_labels))
            target = Target(questions.target.images[now], questions.target.valid[now])
            truth = Truth(**{name: value[now] for name, value in vars(questions.truth).items()})
            losses["one_step"] = self._image_losses[questions.task](images, target, truth)
        if one_step < len(answer):
            later = slice(one_step, None)
            clean, noise = third.clean[later].flatten(0, 1), third.noise[later].flatten(0, 1)
            timestep = third.timestep[later].repeat_interleave(num_labels)
            valid = questions.target.valid[later].repeat_interleave(num_labels, dim=0)
            wanted = self.schedule.target(clean, noise, timestep)
            losses["diffusion"] = diffusion_loss(
                answer[later].flatten(0, 1), wanted, valid, self.config.loss.diffusion_norm
            ).view(-1, num_labels).mean(dim=1)  # fmt: skip
        return losses
