"""Convolutions before and after the transformer, at the latent's resolution, for small checkpoints.

A small transformer with large patches cannot carry the fine detail that matching and sharp outlines need; a few
convolutions on the pixels themselves, with a skip past the transformer, can.
"""

from __future__ import annotations

from itertools import pairwise

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


class Correlation(nn.Module):
    """How well each place of one latent matches the places around it in another.

    Features of the same small convolutional network, multiplied for every displacement within a square window
    (Dosovitskiy et al. 2015, FlowNetC): what a transformer with large patches would otherwise have to discover.

    Args:
        in_channels: Of each latent.
        channels: Of the features that are compared.
        radius: Largest displacement along an axis, in latent pixels.
        out_channels: Of the result.
    """

    def __init__(self, in_channels: int, channels: int, radius: int, out_channels: int) -> None:
        super().__init__()
        self.radius = radius
        self.conv_in = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.GroupNorm(1, channels)
        self.conv_out = nn.Conv2d((2 * radius + 1) ** 2, out_channels, 1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """(B, in_channels, h, w) twice to (B, out_channels, h, w)."""
        features = self.norm(self.conv(F.silu(self.conv_in(torch.cat([first, second])))))
        one, other = (features / features.shape[1] ** 0.5).permute(0, 2, 3, 1).chunk(2)
        height, width = first.shape[-2:]
        window = 2 * self.radius + 1
        # Each row of places with all places of the rows around it; products beyond the window's width are wasted, but
        # these are matrix products.
        rows = F.pad(other, (0, 0, *(self.radius,) * 4)).unfold(1, window, 1)  # (B, h, w + 2 radius, C, window)
        rows = rows.permute(0, 1, 3, 4, 2).flatten(3)  # (B, h, C, window * (w + 2 radius))
        products = one @ rows  # (B, h, w, window * (w + 2 radius))
        # Of place x those from column x on.
        line, padded = products.shape[-1], width + 2 * self.radius
        size = len(products), height, width, window, window
        strides = height * width * line, width * line, line + 1, padded, 1
        matches = products.contiguous().as_strided(size, strides).flatten(3).permute(0, 3, 1, 2)
        out: Tensor = self.conv_out(matches)
        return out


class ConvStem(nn.Module):
    """Latents to features at one or more resolutions, each half the one before and twice as wide."""

    def __init__(
        self, in_channels: int, channels: int, levels: int, blocks: int, hidden_size: int, correlation: int
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.correlation: Correlation | None = None
        if correlation:
            self.correlation = Correlation(in_channels // 3, channels // 2, correlation, channels)
        widths = [channels * 2**level for level in range(levels)]
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.levels = nn.ModuleList(
            nn.ModuleList(ConditionedBlock(width, hidden_size) for _ in range(blocks)) for width in widths
        )

    def forward(self, x: Tensor, condition: Tensor) -> list[Tensor]:
        """(B, in_channels, h, w) and (B, D) to the features of each level, the finest first."""
        inputs, x = x, self.conv_in(x)
        if self.correlation:
            image, prompt, _ = inputs.chunk(3, dim=1)
            x = x + self.correlation(image, prompt)
        features: list[Tensor] = []
        for i, level in enumerate(self.levels):
            x = self.down[i - 1](x) if i else x
            for block in level:  # type: ignore[attr-defined]  # a list of modules
                x = block(x, condition)
            features.append(x)
        return features


class ConvHead(nn.Module):
    """The transformer's features and the stem's to the prediction."""

    def __init__(self, out_channels: int, channels: int, levels: int, blocks: int, hidden_size: int) -> None:
        super().__init__()
        widths = [channels * 2**level for level in range(levels)]
        self.merge = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for width in widths)
        self.levels = nn.ModuleList(
            nn.ModuleList(ConditionedBlock(width, hidden_size) for _ in range(blocks)) for width in widths
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(widths))
        self.norm = nn.GroupNorm(8, channels)
        self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor, skips: list[Tensor], condition: Tensor) -> Tensor:
        """Features of the coarsest level, those of the stem and (B, D) to (B, out_channels, h, w)."""
        for i in reversed(range(len(self.levels))):
            x = self.merge[i](torch.cat([x, skips[i]], dim=1))
            for block in self.levels[i]:  # type: ignore[attr-defined]  # a list of modules
                x = block(x, condition)
            x = self.up[i - 1](x) if i else x
        out: Tensor = self.conv_out(F.silu(self.norm(x)))
        return out
