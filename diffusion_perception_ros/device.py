"""Where to run, from what a user wrote."""

from __future__ import annotations

import re

import torch

from diffusion_perception_ros.errors import InputError

_NAME = re.compile(r"cpu|cuda(:(0|[1-9][0-9]*))?")


def resolve_device(device: str | torch.device) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU; anything else must be there.

    Raises:
        InputError: The device is unknown or not available. It is never replaced in silence.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = str(device)
    if not _NAME.fullmatch(name):
        raise InputError(f"device {name!r} is unknown; use auto, cpu, cuda or cuda:N.")
    if name == "cpu":
        return torch.device(name)
    if not torch.cuda.is_available():
        raise InputError(f"device {name!r} is not available: this PyTorch sees no CUDA GPU; use auto or cpu.")
    count = torch.cuda.device_count()
    if int(name.partition(":")[2] or 0) >= count:
        raise InputError(f"device {name!r} is not available: the CUDA GPUs are numbered from 0 to {count - 1}.")
    return torch.device(name)
