"""Frame pairs in the memory of a device, from which a step gathers its samples without the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_perception_ros.training.cache import PairCache
from diffusion_perception_ros.training.source import Numbers


class ResidentPairs:
    """The shards of a cache that were read last, as many as there is room for.

    Args:
        cache: What they are copied from, each when it is first needed.
        room: How many shards; 0.2 MB for each pair of 128x128 pixels.
        device: Where they are.
    """

    def __init__(self, cache: PairCache, room: int, device: torch.device) -> None:
        self.cache = cache
        self.room = room
        self.device = device
        self._fields: dict[str, Tensor] = {}
        self._shards: dict[int, int] = {}  # by place

    def read(self, numbers: Numbers) -> dict[str, Tensor]:
        """The fields of ``pair_type`` of some pairs, in that order; waits for those that are not rendered yet.

        The shards of one call must have different places: they are `room` in a row at most.
        """
        shards, rows = np.divmod(numbers, self.cache.shard_size)
        places = shards % self.room
        missing = [shard for shard in np.unique(shards).tolist() if self._shards.get(shard % self.room) != shard]
        self.cache.ensure(missing, progress=False)
        for shard in missing:
            self._load(shard)
        index = torch.from_numpy(places * self.cache.shard_size + rows).to(self.device)
        return {name: field.index_select(0, index) for name, field in self._fields.items()}

    def _load(self, shard: int) -> None:
        size = self.cache.shard_size
        records = tensors(self.cache.shard(shard))
        if not self._fields:
            self._fields = {
                name: torch.empty((self.room * size, *field.shape[1:]), dtype=field.dtype, device=self.device)
                for name, field in records.items()
            }
        place = shard % self.room
        for name, field in records.items():
            self._fields[name][place * size : (place + 1) * size] = field.to(self.device)
        self._shards[place] = shard


def tensors(records: NDArray[Any]) -> dict[str, Tensor]:
    """The fields of records, on the host."""
    return {name: torch.from_numpy(np.ascontiguousarray(records[name])) for name in records.dtype.names or ()}
