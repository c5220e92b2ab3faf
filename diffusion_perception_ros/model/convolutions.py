"""Convolutions before and after the transformer, at the latent's resolution, for small checkpoints.

A small transformer with large patches cannot carry the fine detail that matching and sharp outlines need; a few
convolutions on the pixels themselves, with a skip past the transformer, can.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_perception_ros.model.embeddings import Condition
from diffusion_perception_ros.model.linear import Linear, linear

# The modulations of blocks by resolution and block, each (..., 2 channels).
LevelModulations = list[list[Tensor]]

# Side of the square that correlation's features are centred in, and the mean square of what is hardly a texture.
_NEIGHBOURHOOD, _FAINT_TEXTURE = 7, 0.02
# From how many needless products for each needed one a matrix product is slower on a CPU than one sum after another.
_LARGEST_WASTE = 8


class Pointwise(nn.Conv2d):
    """A 1x1 convolution: a linear layer, where channels are last in memory."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, input: Tensor) -> Tensor:
        """(B, in_channels, h, w) to (B, out_channels, h, w)."""
        return linear(input.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class ConditionedBlock(nn.Module):
    """A residual block of two 3x3 convolutions, modulated by the condition (Dhariwal & Nichol 2021, AdaGN)."""

    def __init__(self, channels: int, hidden_size: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Sequential(nn.SiLU(), Linear(hidden_size, 2 * channels))

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """(B, C, h, w) and (B, 2 C) to (B, C, h, w)."""
        shift, scale = modulation[..., None, None].chunk(2, dim=1)
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(torch.addcmul(shift, self.norm2(y), 1 + scale)))
        out: Tensor = x + y
        return out


class Correlation(nn.Module):
    """How well each place of one latent matches the places around it in another, at one or more resolutions.

    Linear features, multiplied for every displacement within a square window (Dosovitskiy et al. 2015, FlowNetC). They
    are centred and normalised around each place as in block matching (zero-mean normalised cross-correlation), which
    makes matches stand out before anything is learned; small windows at several resolutions, because in one large
    window of the finest resolution most matches are chance.

    Args:
        in_channels: Of each latent.
        channels: Of the features that are compared.
        radius: Largest displacement along an axis, in pixels of each resolution.
        out_channels: Of the result at each resolution, the finest first, each half the one before.
    """

    def __init__(self, in_channels: int, channels: int, radius: int, out_channels: Sequence[int]) -> None:
        super().__init__()
        self.radius = radius
        self.conv_in = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)  # centring would cancel a bias
        self.conv_out = nn.ModuleList(Pointwise((2 * radius + 1) ** 2, width) for width in out_channels)

    def forward(self, first: Tensor, second: Tensor) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
        """Compare two latents.

        Args:
            first: (B, in_channels, h, w).
            second: Likewise.

        Returns:
            (B, out_channels[i], h / 2**i, w / 2**i) for each resolution i; and the features of both at the finest.
        """
        features = self.conv_in(torch.cat([first, second]))
        finest = _normalize(features)
        results = []
        for i, conv_out in enumerate(self.conv_out):
            features = F.avg_pool2d(features, 2) if i else features
            one, other = (_normalize(features) if i else finest).chunk(2)
            results.append(conv_out(local_products(one, other, self.radius)))
        one, other = finest.chunk(2)
        return results, (one, other)


class Lookup(nn.Module):
    """Compares two latents once more, around where each place is believed to be found in the other.

    The belief is read off the features so far, and the matches around it say how far off it is, at the finest
    resolution and however far things moved (Teed & Deng 2020, RAFT; Sun et al. 2018, PWC-Net).

    Args:
        channels: Of the features.
        radius: Largest displacement from where it is believed to be, along an axis, in pixels.
    """

    def __init__(self, channels: int, radius: int) -> None:
        super().__init__()
        self.radius = radius
        self.offset = nn.Conv2d(channels, 2, 3, padding=1)
        self.conv_out = Pointwise((2 * radius + 1) ** 2 + 2, channels)

    def forward(self, x: Tensor, one: Tensor, other: Tensor) -> Tensor:
        """(B, channels, h, w) features, and what `Correlation` compared of both latents, to (B, channels, h, w)."""
        # As a place to look at, no gradient: matches say little about where else there would be better ones.
        offset = self.offset(x).detach()
        matches = local_products(one, sample(other, offset), self.radius)
        out: Tensor = x + self.conv_out(torch.cat([matches, offset], dim=1))
        return out


def sample(features: Tensor, offset: Tensor) -> Tensor:
    """(B, C, h, w) features at (B, 2, h, w) pixels to the right of and below each place; 0 beyond the edges."""
    height, width = features.shape[-2:]
    # Of the whole image at -1 and 1 the centre of the first pixel is half a pixel inside. Half precision cannot tell
    # places apart.
    line = [(2 * torch.arange(n, device=offset.device) + 1) / n - 1 for n in (height, width)]
    y, x = torch.meshgrid(*line, indexing="ij")
    # Not divided by a tensor of both sizes, which would have to be copied to the device in every step.
    right, below = offset.float().unbind(dim=1)
    grid = torch.stack([x + 2 * right / width, y + 2 * below / height], dim=-1)
    return F.grid_sample(features.float(), grid, align_corners=False).to(features.dtype)


def local_products(one: Tensor, other: Tensor, radius: int) -> Tensor:
    """Mean over the channels of ``one[y, x] * other[y + dy, x + dx]``, 0 beyond the edges.

    Args:
        one: (B, C, h, w).
        other: (B, C, h, w).
        radius: Largest displacement along an axis.

    Returns:
        (B, (2 radius + 1)**2, h, w), dy first.
    """
    channels, height, width = one.shape[1:]
    one, other = (features.permute(0, 2, 3, 1) for features in (one / channels, other))
    window, padded = 2 * radius + 1, width + 2 * radius
    other = F.pad(other, (0, 0, *(radius,) * 4))
    gradients = torch.is_grad_enabled() and (one.requires_grad or other.requires_grad)
    if one.device.type == "cpu" and not gradients and padded > _LARGEST_WASTE * window:
        displacements = product(range(window), repeat=2)
        return torch.stack(
            [(one * other[:, y : y + height, x : x + width]).sum(dim=-1) for y, x in displacements], dim=-1
        ).permute(0, 3, 1, 2)
    # Each row of places with all places of the rows around it: more products than are needed, but one matrix product.
    rows = other.unfold(1, window, 1)  # (B, h, w + 2 radius, C, window)
    products = one @ rows.permute(0, 1, 3, 4, 2).flatten(3)  # (B, h, w, window * (w + 2 radius))
    # Of place x those from column x on.
    line = window * padded
    size = len(products), height, width, window, window
    strides = height * width * line, width * line, line + 1, padded, 1
    return products.contiguous().as_strided(size, strides).flatten(3).permute(0, 3, 1, 2)


def _normalize(features: Tensor) -> Tensor:
    """Without the mean around each place, and of about unit length, shorter where there is hardly any texture."""
    mean = features
    for window in ((_NEIGHBOURHOOD, 1), (1, _NEIGHBOURHOOD)):  # one axis after the other, which is the same for less
        padding = [side // 2 for side in window]
        mean = F.avg_pool2d(mean, window, 1, padding, count_include_pad=False)
    texture = features - mean
    return texture * (texture.square().mean(dim=1, keepdim=True) + _FAINT_TEXTURE).rsqrt()


def level_modulations(levels: nn.ModuleList, condition: Condition) -> LevelModulations:
    """Of the blocks of all resolutions."""
    return [[condition(block.modulation) for block in level] for level in levels]  # type: ignore[attr-defined]


class ConvStem(nn.Module):
    """Latents to features at one or more resolutions, each half the one before and twice as wide."""

    def __init__(
        self, in_channels: int, channels: int, levels: int, blocks: int, hidden_size: int, correlation_radius: int
    ) -> None:
        super().__init__()
        widths = [channels * 2**level for level in range(levels)]
        self.conv_in = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.correlation: Correlation | None = None
        if correlation_radius:
            self.correlation = Correlation(in_channels // 3, channels // 2, correlation_radius, widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.levels = nn.ModuleList(
            nn.ModuleList(ConditionedBlock(width, hidden_size) for _ in range(blocks)) for width in widths
        )

    def modulations(self, condition: Condition) -> LevelModulations:
        """Of all blocks."""
        return level_modulations(self.levels, condition)

    def forward(self, x: Tensor, modulations: LevelModulations) -> tuple[list[Tensor], tuple[Tensor, Tensor] | None]:
        """(B, in_channels, h, w) to the features of each level, the finest first, and what was compared."""
        # What convolutions are fastest with, on processors and tensor cores; what follows keeps to it.
        x = x.contiguous(memory_format=torch.channels_last)
        matches, compared = self.correlation(*x.chunk(3, dim=1)[:2]) if self.correlation else (None, None)
        x = self.conv_in(x)
        features: list[Tensor] = []
        for i, level in enumerate(self.levels):
            x = self.down[i - 1](x) if i else x
            x = x + matches[i] if matches else x
            for block, modulation in zip(level, modulations[i], strict=True):  # type: ignore[call-overload]  # modules
                x = block(x, modulation)
            features.append(x)
        return features, compared


class ConvHead(nn.Module):
    """The transformer's features and the stem's to the prediction."""

    def __init__(
        self, out_channels: int, channels: int, levels: int, blocks: int, hidden_size: int, lookup_radius: int
    ) -> None:
        super().__init__()
        widths = [channels * 2**level for level in range(levels)]
        self.lookup = Lookup(channels, lookup_radius) if lookup_radius else None
        self.merge = nn.ModuleList(Pointwise(2 * width, width) for width in widths)
        self.levels = nn.ModuleList(
            nn.ModuleList(ConditionedBlock(width, hidden_size) for _ in range(blocks)) for width in widths
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(widths))
        self.norm = nn.GroupNorm(8, channels)
        self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)

    def modulations(self, condition: Condition) -> LevelModulations:
        """Of all blocks."""
        return level_modulations(self.levels, condition)

    def forward(
        self,
        x: Tensor,
        skips: Sequence[Tensor],
        compared: tuple[Tensor, Tensor] | None,
        modulations: LevelModulations,
    ) -> Tensor:
        """Features of the coarsest level and what the stem gave to (B, out_channels, h, w)."""
        for i in reversed(range(len(self.levels))):
            x = self.merge[i](torch.cat([x, skips[i]], dim=1))
            if not i and self.lookup and compared:
                x = self.lookup(x, *compared)
            for block, modulation in zip(self.levels[i], modulations[i], strict=True):  # type: ignore[call-overload]
                x = block(x, modulation)
            x = self.up[i - 1](x) if i else x
        out: Tensor = self.conv_out(F.silu(self.norm(x)))
        return out
