"""Load balancing: that a mixture's experts share the work."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_perception_ros.model.experts import Router


def load_balancing_loss(scores: Tensor, experts: Tensor) -> Tensor:
    """Experts times the inner product of each one's share of tokens and its mean score.

    Fedus et al. 2022 (Switch Transformers, arXiv 2101.03961), with top-k counts as DiT-MoE has it. 1 where all experts
    get the same, up to their number where one gets all.

    Args:
        scores: (N, experts), softmax of the router.
        experts: (N, k) chosen.
    """
    num_experts = scores.shape[1]
    share = F.one_hot(experts.flatten(), num_experts).to(scores.dtype).mean(dim=0)
    return num_experts * (share * scores.mean(dim=0)).sum()


class LoadBalance:
    """Watches the routers of a network, so that inference knows nothing of it.

    Args:
        network: Any module; its routers are found by their type.
    """

    def __init__(self, network: nn.Module) -> None:
        self._losses: list[Tensor] = []
        for module in network.modules():
            if isinstance(module, Router):
                module.register_forward_hook(self._observe)

    def _observe(self, router: nn.Module, inputs: tuple[Tensor], outputs: tuple[Tensor, Tensor]) -> None:
        assert isinstance(router, Router)
        if router.training:
            self._losses.append(load_balancing_loss(router.scores(inputs[0]), outputs[1]))

    def take(self) -> Tensor | float:
        """The sum over the routers since the last call; 0 for a network without experts."""
        total = sum(self._losses)
        self._losses.clear()
        return total
