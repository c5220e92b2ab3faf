"""Which optimiser each weight gets."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffusion_perception_ros.training.config import OptimizerConfig
from diffusion_perception_ros.training.muon import Muon

# Tables, maps from and to pixels and conditions, and routers: their rows mean something one by one.
_NOT_HIDDEN = (
    "x_embedder",
    "t_embedder",
    "y_embedder",
    "final_layer",
    "gate",
    "label_bias",
    "modulation",
    "conv_in",
    "conv_out",
    "offset",
)


def make_optimizers(network: nn.Module, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """AdamW, after Muon for the hidden matrices where that is wanted; weights of one dimension do not decay."""
    hidden: list[Tensor] = []
    matrices: list[Tensor] = []
    vectors: list[Tensor] = []
    for name, parameter in network.named_parameters():
        if name.endswith("bias") or parameter.ndim < 2:
            vectors.append(parameter)
        elif config.name == "muon" and not any(part in name for part in _NOT_HIDDEN):
            hidden.append(parameter)
        else:
            matrices.append(parameter)
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizers: list[torch.optim.Optimizer] = []
    if hidden:
        optimizers.append(Muon(hidden, lr=config.learning_rate, weight_decay=config.weight_decay))
    optimizers.append(torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas))
    return optimizers
