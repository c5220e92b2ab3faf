"""Convolutions before and after the transformer, at the latent's resolution, for small checkpoints.

A small transformer with large patches cannot carry the fine detail that matching and sharp outlines need; a few
convolutions on the pixels themselves, with a skip past the transformer, can.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConditionedBlock(nn.Module):
    """A residual block of two 3x3 convolutions, modulated by the condition (Dhariwal & Nichol 2021, AdaGN)."""

    def __init__(self, channels: int, hidden_size: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 2 * channels))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, C, h, w) and (B, D) to (B, C, h, w)."""
        shift, scale = self.modulation(condition)[..., None, None].chunk(2, dim=1)
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(torch.addcmul(shift, self.norm2(y), 1 + scale)))
        out: Tensor = x + y
        return out


class ConvStem(nn.Module):
    """Latents to features."""

    def __init__(self, in_channels: int, channels: int, num_blocks: int, hidden_size: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.blocks = nn.ModuleList(ConditionedBlock(channels, hidden_size) for _ in range(num_blocks))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, in_channels, h, w) and (B, D) to (B, C, h, w)."""
        x = self.conv_in(x)
        for block in self.blocks:
            x = block(x, condition)
        return x


class ConvHead(nn.Module):
    """The transformer's features and the stem's to the prediction."""

    def __init__(self, channels: int, out_channels: int, num_blocks: int, hidden_size: int) -> None:
        super().__init__()
        self.merge = nn.Conv2d(2 * channels, channels, 1)
        self.blocks = nn.ModuleList(ConditionedBlock(channels, hidden_size) for _ in range(num_blocks))
        self.norm = nn.GroupNorm(8, channels)
        self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor, condition: Tensor) -> Tensor:
        """(B, C, h, w), (B, C, h, w) and (B, D) to (B, out_channels, h, w)."""
        x = self.merge(torch.cat([x, skip], dim=1))
        for block in self.blocks:
            x = block(x, condition)
        out: Tensor = self.conv_out(F.silu(self.norm(x)))
        return out
