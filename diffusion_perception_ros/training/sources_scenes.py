"""Generated scenes as a source: a window over the pairs on disk that moves with the steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.metadata import TargetEncoding
from diffusion_perception_ros.tasks import Truth
from diffusion_perception_ros.training.cache import VALIDATION_SEED, PairCache, unpack_masks
from diffusion_perception_ros.training.config import TrainingConfig
from diffusion_perception_ros.training.frames import Frames
from diffusion_perception_ros.training.resident import ResidentPairs, tensors
from diffusion_perception_ros.training.source import Numbers, Source


class SceneSource(Source):
    """Pairs by number.

    Args:
        config: Of the run.
        cache: Where pairs come from.
        device: Where frames go.

    Raises:
        InputError: The run would come to the scenes that are held out.
    """

    def __init__(self, config: TrainingConfig, cache: PairCache, device: torch.device) -> None:
        self.data = config.data
        self.cache = cache
        self.device = device
        # From a GPU's memory samples come as fast as it learns from them.
        room = self.window(0)[1] + 1
        self.resident = ResidentPairs(cache, room, device) if device.type == "cuda" else None
        last = self.data.first_seed + (self.window(config.steps)[1] + 1) * self.data.shard_size
        if last > VALIDATION_SEED:
            raise InputError(f"the run needs scenes up to seed {last}; from {VALIDATION_SEED} on they are held out.")

    def window(self, step: int) -> tuple[int, int]:
        """First shard that a step draws from, and one past the last."""
        data = self.data
        size = -(-data.pairs // data.shard_size)
        first = step // data.refresh_steps if data.refresh_steps else 0
        return first, first + size

    def draw(self, step: int, count: int, rng: np.random.Generator) -> Numbers:
        """See ``Source``."""
        first, end = (shard * self.cache.shard_size for shard in self.window(step))
        return rng.integers(first, end, count)

    def read(self, numbers: Numbers, encoding: TargetEncoding) -> Frames:
        """See ``Source``; scenes are rendered at the network's resolution."""
        if self.resident is not None:
            return unpack(self.resident.read(numbers))
        return scene_frames(self.cache.read(numbers), self.device)

    def prepare(self, step: int) -> None:
        """Render what a step needs, and show how far it is."""
        self.cache.ensure(range(*self.window(step)))

    def refresh(self, step: int) -> None:
        """Start to render the shard that is needed next, and delete those that no step from this one on needs."""
        first, end = self.window(step)
        if self.data.refresh_steps and self.cache.workers:
            self.cache.start([end])
            self.cache.forget(first - 2)

    def close(self) -> None:
        """End the rendering processes."""
        self.cache.close()


def scene_frames(records: NDArray[Any], device: torch.device) -> Frames:
    """Records of ``pair_type`` as frames on a device."""
    return unpack({name: field.to(device) for name, field in tensors(records).items()})


def unpack(fields: Mapping[str, Tensor]) -> Frames:
    """Frames from the fields of ``pair_type``."""

    def vectors(name: str) -> Tensor:
        return fields[name].float().permute(0, 3, 1, 2).contiguous()

    masks = unpack_masks(fields["masks"])
    truth = Truth(
        fields["depth"].float(),
        vectors("flow"),
        masks["flow_valid"],
        masks["visible"],
        masks["amodal"],
        vectors("normals") if "normals" in fields else None,
    )
    return Frames(vectors("image") / 255, vectors("next_image") / 255, truth)
