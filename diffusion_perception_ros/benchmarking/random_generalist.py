"""Generalists with random weights of any size, made where and in the type in which they run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from diffusion_perception_ros.model.transformer import DiTMoETransformer


def random_generalist(sizes: Mapping[str, int], dtype: torch.dtype, device: torch.device) -> DiTMoETransformer:
    """One whose every weight matters: the layers that training starts at zero are random, too.

    The 2.76 billion weights of the released size never exist in float32 or on the host.

    Args:
        sizes: Arguments of ``DiTMoETransformer``; the released generalist's by default.
        dtype: Of the weights.
        device: Where they are made.
    """
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), _made_as(dtype), device:
        torch.manual_seed(0)
        transformer: DiTMoETransformer = DiTMoETransformer(**sizes)
        for name, parameter in transformer.named_parameters():
            if "adaLN_modulation" in name or "final_layer" in name or name.endswith("bias"):
                nn.init.normal_(parameter, std=0.05)
    # The position embedding alone is computed on the host, in float32.
    transformer.pos_embed = transformer.pos_embed.to(device, dtype)
    transformer.eval().requires_grad_(False)
    return transformer


@contextmanager
def _made_as(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
