"""What goes into the transformer: patches and their places as tokens, timestep and task as a condition."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from diffusion_perception_ros.model.linear import Linear


class PatchEmbed(nn.Module):
    """Patches to tokens with a convolution per task, chosen per sample by the class label.

    The chosen kernels are gathered per sample, so that one batch mixes tasks without asking the device which
    ones it holds.
    """

    def __init__(self, num_kernels: int, in_channels: int, hidden_size: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.weight = nn.Parameter(torch.empty(num_kernels, hidden_size, in_channels, patch_size, patch_size))
        self.bias = nn.Parameter(torch.zeros(num_kernels, hidden_size))
        for i in range(num_kernels):
            nn.init.xavier_uniform_(self.weight[i].view(hidden_size, -1))

    def forward(self, x: Tensor, kernel_index: Tensor) -> Tensor:
        """(B, C, H, W) and (B,) to (B, T, D)."""
        p = self.patch_size
        patches = x.unflatten(3, (-1, p)).unflatten(2, (-1, p)).permute(0, 2, 4, 1, 3, 5)  # (B, H/p, W/p, C, p, p)
        weight = self.weight.index_select(0, kernel_index).flatten(2)  # (B, D, C*p*p)
        bias = self.bias.index_select(0, kernel_index).unsqueeze(1)
        return torch.baddbmm(bias, patches.flatten(3).flatten(1, 2), weight.transpose(1, 2))


class TimestepEmbedder(nn.Module):
    """Sinusoidal embedding of the timestep (Vaswani et al. 2017), cosines first, then an MLP."""

    def __init__(self, hidden_size: int, frequency_size: int, max_period: float = 10_000.0) -> None:
        super().__init__()
        self.num_frequencies = frequency_size // 2
        self.max_period = max_period
        self.mlp = nn.Sequential(Linear(frequency_size, hidden_size), nn.SiLU(), Linear(hidden_size, hidden_size))

    def forward(self, timestep: Tensor) -> Tensor:
        """(...) to (..., D)."""
        # In float32 whatever the dtype of the weights: half precision cannot tell timestep 998 from 999. For
        # that reason the frequencies are not a buffer either, which `.to(dtype)` would round.
        index = torch.arange(self.num_frequencies, dtype=torch.float32, device=timestep.device)
        frequencies = torch.exp(-math.log(self.max_period) * index / self.num_frequencies)
        angles = timestep.float().unsqueeze(-1) * frequencies
        embedding = torch.cat([angles.cos(), angles.sin()], dim=-1)
        out: Tensor = self.mlp(embedding.to(next(self.mlp.parameters()).dtype))
        return out


class LabelEmbedder(nn.Module):
    """A learned row per class label."""

    def __init__(self, num_labels: int, hidden_size: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(num_labels, hidden_size)
        nn.init.normal_(self.embedding_table.weight, std=0.02)

    def forward(self, class_labels: Tensor) -> Tensor:
        """(B,) to (B, D)."""
        out: Tensor = self.embedding_table(class_labels)
        return out


class Condition:
    """Timestep and label of each sample, and what layers make of them, which depends on nothing else.

    Args:
        embedding: (B, D).
    """

    def __init__(self, embedding: Tensor) -> None:
        self._embedding = embedding
        self._modulations: dict[nn.Module, Tensor] = {}

    def __call__(self, modulation: nn.Module) -> Tensor:
        """What a layer's modulation makes of it, (B, channels), computed once."""
        if modulation not in self._modulations:
            self._modulations[modulation] = modulation(self._embedding)
        return self._modulations[modulation]


def sincos_position_embedding(hidden_size: int, grid_size: int) -> Tensor:
    """Fixed 2-D sine-cosine position embedding (He et al. 2022, MAE).

    The first half of the channels encodes the column, the second the row; each sines first.

    Returns:
        (1, grid_size**2, hidden_size) float32.
    """
    quarter = hidden_size // 4
    frequencies = 10_000.0 ** (-np.arange(quarter, dtype=np.float64) / quarter)
    angles = np.arange(grid_size, dtype=np.float64)[:, None] * frequencies
    line = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)  # (grid_size, hidden_size / 2)
    columns = np.broadcast_to(line[None, :], (grid_size, grid_size, hidden_size // 2))
    rows = np.broadcast_to(line[:, None], (grid_size, grid_size, hidden_size // 2))
    embedding = np.concatenate([columns, rows], axis=-1).reshape(1, grid_size**2, hidden_size)
    return torch.from_numpy(embedding.astype(np.float32))
