"""Numbers that each frame needs on the device."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """A tensor of these values, kept: to bring them to a GPU anew, the host would wait until it has come that far.

    Args:
        values: Few.
        device: Where.
        dtype: Its type.

    Returns:
        (len(values),), not to be written to.
    """
    with torch.inference_mode(False):  # a tensor of inference mode is of no use outside of it
        return torch.tensor(values, device=device, dtype=dtype)
