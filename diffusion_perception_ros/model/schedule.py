"""The noise schedule of a checkpoint, as diffusers' DDIM scheduler."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from diffusers.schedulers.scheduling_ddim import DDIMScheduler

_ARGUMENTS = inspect.signature(DDIMScheduler.__init__).parameters


def ddim_scheduler(config: Mapping[str, Any]) -> DDIMScheduler:
    """What a scheduler config describes; what is about other schedulers is passed over.

    Not by ``DDIMScheduler.from_config``, which imports all schedulers of diffusers to see which are compatible, and
    scipy's statistics with them: seconds, before the first result.
    """
    return DDIMScheduler(**{name: value for name, value in config.items() if name in _ARGUMENTS})
