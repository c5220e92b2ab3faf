"""How much arithmetic training takes: the compute that scaling laws are about."""

from __future__ import annotations

from typing import Any

from torch import nn

# The backward pass has two products for each of the forward pass: with the weights and with the activations.
_FORWARD_AND_BACKWARD = 3


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
