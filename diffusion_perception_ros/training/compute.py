"""How much arithmetic training takes: the compute that scaling laws are about."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from diffusion_perception_ros.model.transformer import DiTMoETransformer

# The backward pass has two products for each of the forward pass: with the weights and with the activations.
_FORWARD_AND_BACKWARD = 3


def count_flops(network: nn.Module, *inputs: Any) -> int:
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
    # To a token its k experts are one MLP of k times the width, which can be counted without routing anything.
    width = config.mlp_size * (config.num_experts_per_tok if config.num_experts else 1)
    # Not by `from_config`, which takes back changes to what was left at its default.
    sizes = {name: value for name, value in config.items() if not name.startswith("_")}
    with torch.device("meta"):
        dense = DiTMoETransformer(**{**sizes, "num_experts": 0, "mlp_size": width}).to("meta")
        latent = torch.empty(1, config.in_channels, config.sample_size, config.sample_size)
        index = torch.zeros(1, dtype=torch.long)
    tokens = transformer.grid_size**2
    routing: int = 2 * config.num_layers * tokens * config.hidden_size * config.num_experts
    return count_flops(dense, latent, index, index) + routing


class FlopMeter:
    """Adds up what training a network takes, by watching its forward passes.

    Only the network: not what is around it, such as the image codec of the generalist, the optimiser and validation.

    Args:
        network: What is trained.
        sample_flops: Of its forward pass over one sample.
        num_processes: That do the same.

    Attributes:
        flops: Floating-point operations so far.
    """

    def __init__(self, network: nn.Module, sample_flops: int, num_processes: int) -> None:
        self.flops: float = 0
        self._each = _FORWARD_AND_BACKWARD * sample_flops * num_processes
        network.register_forward_pre_hook(self._count)

    def _count(self, network: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.flops += self._each * len(inputs[0])
