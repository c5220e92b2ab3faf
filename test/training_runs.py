"""Tiny runs for the tests of training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from diffusion_perception_ros.training import GeneralistConfig, load_config
from diffusion_perception_ros.training.cache import PairCache, write_shard
from diffusion_perception_ros.training.config import TaskConfig

CONFIGS = Path(__file__).resolve().parent.parent / "config" / "training"


def tiny(**changes: object) -> GeneralistConfig:
    """The tiny configuration, with other values."""
    return replace(generalist(CONFIGS / "tiny.yaml"), **changes)  # type: ignore[arg-type]  # checked by the dataclass


def generalist(path: Path) -> GeneralistConfig:
    """The configuration of a run of stage 2."""
    config = load_config(path)
    assert isinstance(config, GeneralistConfig)
    return config


def seeing_normals(config: GeneralistConfig) -> GeneralistConfig:
    """The same run with one more task."""
    return replace(config, tasks={**config.tasks, "normals": TaskConfig(0.25, "unit_vector", (1005,))})


def render_cache(folder: Path, normals: bool = False) -> Path:
    """Everything that tiny runs read, rendered without the detour of a process."""
    data = tiny().data
    cache = PairCache(folder, tiny().resolution, data.shard_size, data.first_seed, workers=0, normals=normals)
    for shard in range(data.pairs // data.shard_size):
        write_shard(cache.path(shard), cache.seeds(shard), tiny().resolution, normals)
    return folder
