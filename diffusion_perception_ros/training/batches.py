"""Batches: which questions a step asks, as the network sees them, with the answers it should give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffusion_perception_ros.tasks import Target, Truth, find_task
from diffusion_perception_ros.training.augmentation import mirror_frames, photometric
from diffusion_perception_ros.training.config import TrainingConfig
from diffusion_perception_ros.training.frames import Frames
from diffusion_perception_ros.training.regions import focus
from diffusion_perception_ros.training.source import Source


@dataclass(frozen=True)
class Questions:
    """What one task is asked in a batch.

    Attributes:
        task: Its name.
        image: (B, 3, R, R) in [-1, 1].
        prompt: (B, 3, R, R) in [-1, 1].
        target: The answers wanted.
        truth: What they were made from.
    """

    task: str
    image: Tensor
    prompt: Tensor
    target: Target
    truth: Truth


class Batches:
    """Batches by number of step: the same number gives the same batch, whenever and however often it is asked for.

    Args:
        config: Of the run.
        sources: Those of the configuration, in its order.
        process: Which of several processes this is; each sees other samples.
    """

    def __init__(self, config: TrainingConfig, sources: Sequence[Source], process: int = 0) -> None:
        self.config = config
        self.sources = sources
        self.process = process

    def prepare(self, step: int) -> None:
        """Make ready what a step needs, and show how far it is."""
        for source in self.sources:
            source.prepare(step)

    def refresh(self, step: int) -> None:
        """Begin with what later steps need, and drop what no step from this one on needs."""
        for source in self.sources:
            source.refresh(step)

    def rng(self, step: int, part: int, purpose: int) -> np.random.Generator:
        """The source of everything random about one accumulated batch of a step, apart for each purpose."""
        return np.random.default_rng([self.config.seed, step, part, self.process, purpose])

    def make(self, step: int, part: int) -> list[Questions]:
        """The questions of one accumulated batch of a step."""
        rng = self.rng(step, part, purpose=0)
        return [
            ask(self.config, name, self._augment(name, self._draw(name, step, count, rng), rng))
            for name, count in self.config.questions().items()
        ]

    def stream(self, step: int) -> Iterator[tuple[int, int, list[Questions]]]:
        """(step, part, questions) from a step on, each made while the one before is in use."""
        with ThreadPoolExecutor(1) as executor:
            parts = range(self.config.optimizer.accumulation)
            numbers = ((s, part) for s in range(step, self.config.steps) for part in parts)
            current = None
            for number in numbers:
                following = number, executor.submit(self.make, *number)
                if current is not None:
                    yield *current[0], current[1].result()
                current = following
            if current is not None:
                yield *current[0], current[1].result()

    def _draw(self, name: str, step: int, count: int, rng: np.random.Generator) -> Frames:
        """Samples for a task, from each of its sources by their shares, in random order."""
        encoding = self.config.tasks[name].encoding()
        numbers = self.config.sources()[name]
        if len(numbers) == 1:
            (source,) = (self.sources[number] for number in numbers)
            return source.read(source.draw(step, count, rng), encoding)
        shares = np.array([self.config.data.sources[number].share for number in numbers])
        chosen = rng.choice(len(numbers), count, p=shares / shares.sum())
        parts = []
        for choice in np.unique(chosen):
            source = self.sources[numbers[choice]]
            parts.append(source.read(source.draw(step, np.count_nonzero(chosen == choice), rng), encoding))
        place = np.argsort(np.argsort(chosen, kind="stable"))
        frames = Frames.cat(parts)
        return frames[torch.from_numpy(place).to(frames.image.device)]

    def _augment(self, name: str, frames: Frames, rng: np.random.Generator) -> Frames:
        data = self.config.data
        frames = focus(frames, find_task(name), self.config.tasks[name].encoding(), rng)
        if data.photometric:
            frames = photometric(frames, data.photometric, rng)
        mirrored = torch.from_numpy(rng.random(len(frames.image)) < data.flip)
        return mirror_frames(frames, mirrored.to(frames.image.device))


def ask(config: TrainingConfig, name: str, frames: Frames) -> Questions:
    """A task's questions about frames, one each, as the network sees them."""
    task, encoding = find_task(name), config.tasks[name].encoding()
    image, truth = frames.image * 2 - 1, frames.truth
    pictures = {
        "ones": torch.ones_like(image),
        "next_image": frames.next_image * 2 - 1,
        "visible_mask": truth.visible[:, None].float().mul(2).sub(1).expand_as(image),
    }
    (prompt,) = task.prompts(encoding, [1])
    target = task.encode_target(truth, encoding, config.metadata().flow_reference_size)
    return Questions(name, image, pictures[prompt.source], target, truth)
