"""The sources of a run."""

from __future__ import annotations

from pathlib import Path

import torch

from diffusion_perception_ros.training.cache import PairCache
from diffusion_perception_ros.training.config import TrainingConfig
from diffusion_perception_ros.training.source import Source
from diffusion_perception_ros.training.sources_datasets import READERS, DatasetSource
from diffusion_perception_ros.training.sources_scenes import SceneSource


def open_sources(config: TrainingConfig, folder: Path, workers: int, device: torch.device) -> list[Source]:
    """The sources of a run, in the order of its configuration; nothing is rendered or read yet.

    Args:
        config: Of the run.
        folder: Where pairs of scenes are, unless the configuration says it.
        workers: Most processes that render; 0 leaves that to another process of the same run.
        device: Where frames go.

    Raises:
        InputError: A dataset is not complete, or pairs on disk are of other scenes.
    """
    data, truths = config.data, config.truths()
    sources: list[Source] = []
    for number, source in enumerate(data.sources):
        served = [truths[task] for task, numbers in config.sources().items() if number in numbers]
        fields = frozenset[str]().union(*served)
        if source.path is None:
            normals = "normals" in fields
            place = data.folder or folder / "pairs"
            cache = PairCache(place, config.resolution, data.shard_size, data.first_seed, workers, normals, device)
            sources.append(SceneSource(config, cache, device))
        else:
            dataset = READERS[source.kind](source.path, fields)
            sources.append(DatasetSource(dataset, config.resolution, data.workers, device))
    return sources
