"""How much arithmetic a forward pass takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from diffusion_perception_ros.model.transformer import DiTMoETransformer


def count_flops(network: Callable[..., Any], *inputs: Any) -> int:
    """Floating-point operations of a forward pass; a multiplication with its addition is two.

    Matrix products and convolutions count, as in PyTorch's ``FlopCounterMode``; norms, activations and sums do not.

    Args:
        network: On the meta device, where nothing is computed.
        inputs: Likewise.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*inputs)
    return int(counter.get_total_flops())


def transformer_flops(transformer: DiTMoETransformer) -> int:
    """Floating-point operations of the transformer for one sample, see `count_flops`.

    Of the experts only those count that a token is sent to, without the padding of their batches.
    """
    config = transformer.config
    routing: int = 2 * config.num_layers * transformer.grid_size**2 * config.hidden_size * config.num_experts
    return count_flops(dense_equivalent(transformer), *meta_inputs(transformer, 1)) + routing


def dense_equivalent(transformer: DiTMoETransformer) -> DiTMoETransformer:
    """One that computes as much for every token without routing anything, on the meta device.

    To a token its k experts are one MLP of k times the width.
    """
    config = transformer.config
    width = config.mlp_size * (config.num_experts_per_tok if config.num_experts else 1)
    # Not by `from_config`, which takes back changes to what was left at its default.
    sizes = {name: value for name, value in config.items() if not name.startswith("_")}
    with torch.device("meta"):
        dense: DiTMoETransformer = DiTMoETransformer(**{**sizes, "num_experts": 0, "mlp_size": width}).to("meta")
    return dense


def meta_inputs(transformer: DiTMoETransformer, batch_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, timesteps and class labels that the transformer takes, on the meta device."""
    config = transformer.config
    with torch.device("meta"):
        latents = torch.empty(batch_size, config.in_channels, config.sample_size, config.sample_size)
        index = torch.zeros(batch_size, dtype=torch.long)
    return latents, index, index
