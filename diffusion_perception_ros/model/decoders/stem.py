"""A thin stem, which a decoder puts in the place of the convolutions that are most of a small transformer."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from diffusion_perception_ros.model.convolutions import ConditionedBlock, Correlation, Pointwise
from diffusion_perception_ros.model.decoders.matching import Matching
from diffusion_perception_ros.model.embeddings import Condition


class ThinStem(nn.Module):
    """Like ``ConvStem`` with fewer channels, of which the last features have as many as the transformer embeds.

    Args:
        matching: Which samples are compared.
        in_channels: Of the network's input: image, prompt and target latent.
        widths: Channels at each resolution, the finest first, each half the one before.
        out_channels: Of the last features.
        hidden_size: Of the condition.
        correlation_radius: See ``Correlation``; 0 for none.
    """

    def __init__(
        self,
        matching: Matching,
        in_channels: int,
        widths: list[int],
        out_channels: int,
        hidden_size: int,
        correlation_radius: int,
    ) -> None:
        super().__init__()
        self.matching = matching
        # A latent has many channels, of which no neighbours are needed before there are fewer.
        self.conv_in = Pointwise(in_channels, widths[0])
        self.correlation: Correlation | None = None
        if correlation_radius:
            self.correlation = Correlation(in_channels // 3, widths[0] // 2, correlation_radius, widths)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.refine = nn.ModuleList(ConditionedBlock(width, hidden_size) for width in widths)
        self.embed = nn.Conv2d(widths[-1], out_channels, 1)

    def forward(
        self, x: Tensor, condition: Condition, class_labels: Tensor
    ) -> tuple[list[Tensor], tuple[Tensor, Tensor] | None]:
        """(B, in_channels, h, w), condition and (B,) labels to features of each resolution and what was compared."""
        x = x.contiguous(memory_format=torch.channels_last)
        compared = None
        matched = self.matching(class_labels) if self.correlation else None
        if self.correlation and matched:
            image, prompt, _ = x.chunk(3, dim=1)
            matches, compared = self.correlation(matched.of(image), matched.of(prompt))
        x = self.conv_in(x)
        features: list[Tensor] = []
        for level, block in enumerate(self.refine):
            x = self.down[level - 1](x) if level else x
            x = matched.add(x, matches[level]) if matched else x
            x = block(x, condition(block.modulation))  # type: ignore[arg-type]  # modules
            features.append(x)
        features[-1] = self.embed(features[-1])
        return features, compared
