"""Where to run, from what a user wrote."""

from __future__ import annotations

import torch

from diffusion_perception_ros.errors import InputError


def resolve_device(device: str | torch.device) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU; anything else must be there.

    Raises:
        InputError: The device is unknown or not available. It is never replaced in silence.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise InputError(f"device {device!r} is unknown; use auto, cpu, cuda or cuda:N.") from None
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {device!r} is not available: this PyTorch sees no CUDA GPU; use auto or cpu.")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {device!r} is not available: there are {torch.cuda.device_count()} CUDA GPUs.")
    return resolved
