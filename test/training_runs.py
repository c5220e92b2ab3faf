"""Tiny runs for the tests of training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from diffusion_perception_ros.training import TrainingConfig, load_config
from diffusion_perception_ros.training.cache import PairCache, write_shard

CONFIGS = Path(__file__).resolve().parent.parent / "config" / "training"


def tiny(**changes: object) -> TrainingConfig:
    """The tiny configuration, with other values."""
    return replace(load_config(CONFIGS / "tiny.yaml"), **changes)  # type: ignore[arg-type]  # checked by the dataclass


def render_cache(folder: Path) -> Path:
    """Everything that tiny runs read, rendered without the detour of a process."""
    data = tiny().data
    cache = PairCache(folder, tiny().resolution, data.shard_size, data.first_seed, workers=0)
    for shard in range(data.pairs // data.shard_size):
        write_shard(cache.path(shard), cache.seeds(shard), tiny().resolution)
    return folder
