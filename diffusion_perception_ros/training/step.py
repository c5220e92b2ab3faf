"""One training step's losses: all tasks through the network in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from diffusion_perception_ros.model.codec import ImageCodec
from diffusion_perception_ros.tasks import Target
from diffusion_perception_ros.training.balance import LoadBalance
from diffusion_perception_ros.training.batches import Questions
from diffusion_perception_ros.training.generalist_config import GeneralistConfig
from diffusion_perception_ros.training.lookup import Offsets, offset_loss
from diffusion_perception_ros.training.losses import diffusion_loss, find_image_loss
from diffusion_perception_ros.training.noise import NoiseSchedule, multi_resolution_noise, white_noise


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
        offsets: Watches its lookup.
    """

    def __init__(
        self,
        config: GeneralistConfig,
        codec: ImageCodec,
        schedule: NoiseSchedule,
        balance: LoadBalance,
        offsets: Offsets,
    ) -> None:
        self.config = config
        self.codec = codec
        self.schedule = schedule
        self.balance = balance
        self.offsets = offsets
        self._image_losses = {name: find_image_loss(task.encoding()) for name, task in config.tasks.items()}

    def __call__(
        self, network: nn.Module, batch: Sequence[Questions], rng: np.random.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and its parts without their weights."""
        noisy = [self._diffuse(questions, rng) for questions in batch]
        conditions = [self._conditions(questions) for questions in batch]
        if any(
            self._rolled_out(len(questions.image)).stop > self._one_step(len(questions.image)) for questions in batch
        ):
            noisy = self._roll_out(network, batch, conditions, noisy)
        answers = self._predict(network, batch, conditions, noisy)

        parts: dict[str, Tensor] = {"balance": torch.as_tensor(self.balance.take(), device=answers[0].device)}
        total = answers[0].new_zeros(())
        samples = sum(answer.shape[:2].numel() for answer in answers)
        for questions, third, answer in zip(batch, noisy, answers, strict=True):
            for kind, loss in self._of_task(questions, third, answer).items():
                parts[f"{questions.task}_{kind}"] = loss.mean()
                # A loss is a mean over the batch's samples, so that shares weigh as they are set.
                share = len(loss) * third.latent.shape[1] / samples
                total = total + self.config.tasks[questions.task].weight * share * loss.mean()
        # Without what grows with the number of blocks, so that it compares runs of any size.
        parts["task_loss"] = total
        total = total + self.config.loss.balance * parts["balance"]
        offset = self.offsets.take()
        if offset is not None:
            parts["lookup"] = self._lookup(offset, batch, noisy)
            total = total + self.config.loss.lookup * parts["lookup"]
        return total, parts

    def _lookup(self, offset: Tensor, batch: Sequence[Questions], noisy: Sequence[_Noisy]) -> Tensor:
        """Mean error of where the lookup looked, in pixels of the latent."""
        shapes = [third.latent.shape[:2] for third in noisy]
        parts = [
            part.unflatten(0, shape)
            for part, shape in zip(offset.split([s.numel() for s in shapes]), shapes, strict=True)
        ]
        errors = [offset_loss(part, questions) for part, questions in zip(parts, batch, strict=True)]
        return torch.cat(errors).mean()

    def _conditions(self, questions: Questions) -> Tensor:
        """(B, 1, 2 C, h, w) latents of image and prompt."""
        pictures = torch.cat([questions.image, questions.prompt])
        return torch.cat(self.codec.encode(pictures).chunk(2), dim=1).unsqueeze(1)

    def _predict(
        self, network: nn.Module, batch: Sequence[Questions], conditions: Sequence[Tensor], noisy: Sequence[_Noisy]
    ) -> list[Tensor]:
        """The network's answers, (B, labels, C, h, w) for each task."""
        inputs, timesteps, labels = [], [], []
        for questions, condition, third in zip(batch, conditions, noisy, strict=True):
            own = self.config.tasks[questions.task].labels
            expanded = condition.expand(-1, len(own), -1, -1, -1)
            inputs.append(torch.cat([expanded, third.latent], dim=2).flatten(0, 1))
            timesteps.append(third.timestep.repeat_interleave(len(own)))
            labels.append(third.timestep.new_tensor(own).repeat(len(expanded)))
        output = network(torch.cat(inputs), torch.cat(timesteps), torch.cat(labels)).sample.float()
        outputs = output[:, : self.codec.latent_channels].split([len(x) for x in inputs])
        return [x.unflatten(0, third.latent.shape[:2]) for x, third in zip(outputs, noisy, strict=True)]

    @torch.no_grad()
    def _roll_out(
        self, network: nn.Module, batch: Sequence[Questions], conditions: Sequence[Tensor], noisy: Sequence[_Noisy]
    ) -> list[_Noisy]:
        """What a sampler comes to at those timesteps: made from the network's own first answer, not from the truth.

        The error of an earlier step is then something that a later one has seen, and can mend.
        """
        parts = [self._rolled_out(len(questions.image)) for questions in batch]
        last = self.schedule.last_timestep
        first = [
            _Noisy(third.clean[part], third.noise[part], torch.full_like(third.timestep[part], last), third.noise[part])
            for third, part in zip(noisy, parts, strict=True)
        ]
        network.eval()
        answers = self._predict(network, batch, [c[part] for c, part in zip(conditions, parts, strict=True)], first)
        network.train()
        rolled = []
        for third, own, part, answer in zip(noisy, first, parts, answers, strict=True):
            shape = answer.shape[:2]
            num_labels = shape[1]
            clean = self.schedule.clean(
                answer.flatten(0, 1), own.latent.flatten(0, 1), own.timestep.repeat_interleave(num_labels)
            )
            timestep = third.timestep[part].repeat_interleave(num_labels)
            latent = third.latent.clone()
            latent[part] = self.schedule.add_noise(clean, own.noise.flatten(0, 1), timestep).unflatten(0, shape)
            rolled.append(_Noisy(third.clean, third.noise, third.timestep, latent))
        return rolled

    def _one_step(self, count: int) -> int:
        """How many of so many questions are at t = T; they come first."""
        return round(self.config.loss.one_step_share * count)

    def _rolled_out(self, count: int) -> slice:
        """Those that continue from the network's own answer; they come next, and have image-level losses too."""
        start = self._one_step(count)
        return slice(start, start + round(self.config.loss.rollout_share * count))

    def _diffuse(self, questions: Questions, rng: np.random.Generator) -> _Noisy:
        """All samples of a question share timestep and noise, as they do when the question is asked in earnest."""
        images = questions.target.images
        count, num_labels = images.shape[:2]
        clean = self.codec.encode(images.flatten(0, 1))
        one_step, rolled, last = self._one_step(count), self._rolled_out(count).stop, self.schedule.last_timestep
        timestep = torch.from_numpy(rng.integers(0, last + 1, count)).to(clean.device)
        timestep[:one_step] = last
        noise = white_noise((count, *clean.shape[1:]), clean.device, rng)
        if self.config.diffusion.multi_resolution_noise:
            strength = self.config.diffusion.multi_resolution_noise * timestep / last
            strength[:rolled] = 0  # samplers start from white noise
            noise = multi_resolution_noise(noise, strength, rng)
        noise[: round(self.config.loss.zeros_share * one_step)] = 0
        noise, timesteps = noise.repeat_interleave(num_labels, dim=0), timestep.repeat_interleave(num_labels)
        latent = self.schedule.add_noise(clean, noise, timesteps)
        clean, noise, latent = (x.unflatten(0, (count, num_labels)) for x in (clean, noise, latent))
        return _Noisy(clean, noise, timestep, latent)

    def _of_task(self, questions: Questions, third: _Noisy, answer: Tensor) -> dict[str, Tensor]:
        """(B,) losses by their kind."""
        losses = {}
        rolled = self._rolled_out(len(answer))
        for name, part in (("one_step", slice(0, rolled.start)), ("rollout", rolled)):
            if part.start < part.stop:
                losses[name] = self._image_loss(questions, third, answer, part)
        if rolled.stop < len(answer):
            later, num_labels = slice(rolled.stop, None), answer.shape[1]
            clean, noise = third.clean[later].flatten(0, 1), third.noise[later].flatten(0, 1)
            timestep = third.timestep[later].repeat_interleave(num_labels)
            valid = questions.target.valid[later].repeat_interleave(num_labels, dim=0)
            wanted = self.schedule.target(clean, noise, timestep)
            losses["diffusion"] = diffusion_loss(
                answer[later].flatten(0, 1), wanted, valid, self.config.loss.diffusion_norm
            ).view(-1, num_labels).mean(dim=1)  # fmt: skip
        return losses

    def _image_loss(self, questions: Questions, third: _Noisy, answer: Tensor, part: slice) -> Tensor:
        """(B,) loss of the images behind the decoder."""
        shape = answer[part].shape[:2]
        timestep = third.timestep[part].repeat_interleave(shape[1])
        clean = self.schedule.clean(answer[part].flatten(0, 1), third.latent[part].flatten(0, 1), timestep)
        images = self.codec.decode(clean).unflatten(0, shape)
        target = Target(questions.target.images[part], questions.target.valid[part])
        return self._image_losses[questions.task](images, target, questions.truth[part])
