"""A thin stem, which a decoder puts in the place of the convolutions that are most of a small transformer."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from diffusion_perception_ros.model.convolutions import ConditionedBlock, Correlation
from diffusion_perception_ros.model.decoders.matching import Compared, Matching


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
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.correlation: Correlation | None = None
        if correlation_radius:
            self.correlation = Correlation(in_channels // 3, widths[0] // 2, correlation_radius, widths)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.refine = nn.ModuleList(ConditionedBlock(width, hidden_size) for width in widths)
        self.embed = nn.Conv2d(widths[-1], out_channels, 1)

    def forward(self, x: Tensor, condition: Tensor, class_labels: Tensor) -> tuple[list[Tensor], Compared | None]:
        """(B, in_channels, h, w), (B, D) and (B,) to the features of each resolution and what was compared."""
        matches: list[Tensor] = []
        compared: Compared | None = None
        if self.correlation:
            image, prompt, _ = x.chunk(3, dim=1)
            matches, compared = self.matching.correlate(self.correlation, image, prompt, class_labels)
        x = self.conv_in(x)
        features: list[Tensor] = []
        for level, block in enumerate(self.refine):
            x = self.down[level - 1](x) if level else x
            x = block(x + matches[level] if matches else x, block.modulation(condition))  # type: ignore[operator]  # modules
            features.append(x)
        features[-1] = self.embed(features[-1])
        return features, compared
