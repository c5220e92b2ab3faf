"""Schedulers, made once for each sampler and noise schedule."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from copy import copy
from functools import lru_cache
from typing import Any

import numpy as np

from diffusion_perception_ros.sampling.samplers import Sampler


def scheduler_for(sampler: Sampler, scheduler_config: Mapping[str, Any]) -> Any:
    """A diffusers scheduler for one run, which begins with ``set_timesteps``.

    A copy, and a shallow one: runs share the tables of the noise schedule, which nobody writes to. All that steps
    change, ``set_timesteps`` has made anew.

    Args:
        sampler: The sampler.
        scheduler_config: The checkpoint's own.
    """
    values = ((name, _frozen(value)) for name, value in scheduler_config.items())
    return copy(_made(sampler, tuple(values)))


def _frozen(value: Any) -> Hashable:
    """Betas may be given one by one."""
    return tuple(value) if isinstance(value, (list, np.ndarray)) else value


@lru_cache(maxsize=16)
def _made(sampler: Sampler, scheduler_config: tuple[tuple[str, Hashable], ...]) -> Any:
    return sampler.scheduler(dict(scheduler_config))
