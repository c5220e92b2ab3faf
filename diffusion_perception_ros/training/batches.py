"""Batches: which questions a step asks, as the network sees them, with the answers it should give."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.tasks import Target, Truth, find_task
from diffusion_perception_ros.training.augmentation import mirror, mirror_truth, photometric
from diffusion_perception_ros.training.cache import VALIDATION_SEED, PairCache, unpack_masks
from diffusion_perception_ros.training.config import TrainingConfig


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
        cache: Where pairs come from.
        device: Where batches go.
        process: Which of several processes this is; each sees other samples.

    Raises:
        InputError: The run would come to the scenes that are held out.
    """

    def __init__(self, config: TrainingConfig, cache: PairCache, device: torch.device, process: int = 0) -> None:
        self.config = config
        self.cache = cache
        self.device = device
        self.process = process
        last = config.data.first_seed + (self.window(config.steps)[1] + 1) * config.data.shard_size
        if last > VALIDATION_SEED:
            raise InputError(f"the run needs scenes up to seed {last}; from {VALIDATION_SEED} on they are held out.")

    def window(self, step: int) -> tuple[int, int]:
        """First shard that a step draws from, and one past the last."""
        data = self.config.data
        size = -(-data.pairs // data.shard_size)
        first = step // data.refresh_steps if data.refresh_steps else 0
        return first, first + size

    def prepare(self, step: int) -> None:
        """Render what a step needs, and show how far it is."""
        self.cache.ensure(range(*self.window(step)))

    def rng(self, step: int, part: int, purpose: int) -> np.random.Generator:
        """The source of everything random about one accumulated batch of a step, apart for each purpose."""
        return np.random.default_rng([self.config.seed, step, part, self.process, purpose])

    def make(self, step: int, part: int) -> list[Questions]:
        """The questions of one accumulated batch of a step."""
        rng = self.rng(step, part, purpose=0)
        first, end = (shard * self.cache.shard_size for shard in self.window(step))
        return [
            self._ask(name, rng.integers(first, end, count), rng) for name, count in self.config.questions().items()
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

    def refresh(self, step: int) -> None:
        """Start to render the shard that is needed next, and delete those that no step from this one on needs."""
        first, end = self.window(step)
        if self.config.data.refresh_steps and self.cache.workers:
            self.cache.start([end])
            self.cache.forget(first - 2)

    def _ask(self, name: str, indices: np.ndarray, rng: np.random.Generator) -> Questions:
        config, task, encoding = self.config, find_task(name), self.config.tasks[name].encoding()
        records = self.cache.read(indices)
        masks = {key: self._send(value) for key, value in unpack_masks(records["masks"]).items()}
        truth = Truth(
            self._send(records["depth"]).float(), self._send(records["flow"]).float().permute(0, 3, 1, 2).contiguous(),
            masks["flow_valid"], masks["visible"], masks["amodal"],
        )  # fmt: skip
        image, next_image = (self._send(records[key]).permute(0, 3, 1, 2) / 255 for key in ("image", "next_image"))
        if config.data.photometric:
            image, next_image = photometric(image, next_image, config.data.photometric, rng)
        mirrored = self._send(rng.random(len(indices)) < config.data.flip)
        truth = mirror_truth(truth, mirrored)
        image, next_image = (mirror(frame * 2 - 1, mirrored) for frame in (image, next_image))
        pictures = {
            "ones": torch.ones_like(image),
            "next_image": next_image,
            "visible_mask": truth.visible[:, None].float().mul(2).sub(1).expand_as(image),
        }
        (prompt,) = task.prompts(encoding, [1])
        target = task.encode_target(truth, encoding, config.metadata().flow_reference_size)
        return Questions(name, image, pictures[prompt.source], target, truth)

    def _send(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
