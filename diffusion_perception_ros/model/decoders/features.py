"""A decoder of the transformer's features: neither final layer nor latents nor the codec's decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from diffusion_perception_ros.model.codec import ImageCodec
from diffusion_perception_ros.model.convolutions import ConditionedBlock, Lookup
from diffusion_perception_ros.model.decoders.decoder import PerceptionDecoder
from diffusion_perception_ros.model.decoders.matching import Matched, Matching
from diffusion_perception_ros.model.decoders.stem import ThinStem
from diffusion_perception_ros.model.transformer import DiTMoETransformer, Features


class Reassemble(nn.Module):
    """Tokens to a feature map, so many times as fine as their grid (Ranftl et al. 2021, DPT, section 3.1)."""

    def __init__(self, hidden_size: int, channels: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.norm = nn.LayerNorm(hidden_size)
        self.linear = nn.Linear(hidden_size, channels * scale**2)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, D) to (B, channels, scale * T**0.5, scale * T**0.5)."""
        side = round(tokens.shape[1] ** 0.5)
        x = self.linear(self.norm(tokens)).transpose(1, 2).unflatten(2, (side, side))
        return F.pixel_shuffle(x, self.scale)


class FeatureDecoder(PerceptionDecoder):
    """A dense prediction transformer's head (Ranftl et al. 2021, DPT, arXiv 2103.13413).

    Tokens of several blocks become feature maps of several resolutions, each twice the one before, the last block's the
    coarsest, and are fused from coarse to fine. As the network's own output does, the last convolution writes blocks of
    pixels (Shi et al. 2016, arXiv 1609.05158). Unlike there, one head serves all tasks: its blocks are modulated by the
    transformer's condition. Where the transformer has convolutions before it, their features come in at their
    resolutions.

    Args:
        tasks: Class labels of the tasks that it serves, by task.
        resolution: Side of the images.
        sample_size: Side of the latents.
        grid_size: Tokens along a side.
        hidden_size: Of the tokens.
        layers: Blocks to read, in ascending order, and maybe one of them again; as many as there are resolutions, of
            which the coarsest is the tokens' own grid.
        channels: At the finest resolution; twice as many at each coarser one. A multiple of 8.
        out_channels: 1, or 3 where a task's channels differ from each other.
        in_channels: Of the network's input.
        stem_channels: Of the features of the convolutions before the transformer, the finest first; empty without.
        compared_channels: Of what their correlation compared, for a lookup at the finest resolution; 0 for none.
        matched_labels: Class labels whose prompt is another image: for those alone anything is looked up.
        lookup_radius: Of the lookup, see ``Lookup``; 0 for none.
        thin_stem: Channels of a ``ThinStem`` at the finest resolution, which takes the place of those convolutions; 0
            for none. A multiple of 8.
        correlation_radius: Of the thin stem.

    Raises:
        ValueError: The image is no multiple of the finest resolution.
    """

    name: ClassVar[str] = "features"

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        tasks: Mapping[str, Sequence[int]],
        resolution: int,
        sample_size: int,
        grid_size: int,
        hidden_size: int,
        layers: Sequence[int],
        channels: int = 64,
        out_channels: int = 1,
        in_channels: int = 12,
        stem_channels: Sequence[int] = (),
        compared_channels: int = 0,
        matched_labels: Sequence[int] = (),
        lookup_radius: int = 0,
        thin_stem: int = 0,
        correlation_radius: int = 0,
    ) -> None:
        super().__init__()
        if thin_stem and not stem_channels:
            raise ValueError("thin_stem takes the place of convolutions that this transformer does not have")
        self.layers = tuple(layers)
        levels = len(self.layers)
        finest = grid_size * 2 ** (levels - 1)
        if resolution % finest:
            raise ValueError(
                f"resolution {resolution} is no multiple of {finest}, the finest that {levels} layers make"
            )
        self.block = resolution // finest
        widths = [channels * 2**level for level in range(levels)]
        scales = [2 ** (levels - 1 - level) for level in range(levels)]
        self.reassemble = nn.ModuleList(
            Reassemble(hidden_size, width, scale) for width, scale in zip(widths, scales, strict=True)
        )
        self.matching = Matching(matched_labels)
        self.stem = None
        given = list(stem_channels)
        if thin_stem:
            thin = [thin_stem * 2**level for level in range(len(given))]
            self.stem = ThinStem(self.matching, in_channels, thin, given[-1], hidden_size, correlation_radius)
            given = [*thin[:-1], given[-1]]
            compared_channels = thin_stem // 2 if correlation_radius else 0
        # Which of the stem's resolutions is that of each level.
        self.stem_level = [
            next((i for i in range(len(given)) if sample_size >> i == grid_size * scale), None) for scale in scales
        ]
        self.stem_in = nn.ModuleList(
            nn.Identity() if i is None else nn.Conv2d(given[i], width, 1)
            for i, width in zip(self.stem_level, widths, strict=True)
        )
        if lookup_radius and not (compared_channels and self.stem_level[0] == 0):
            raise ValueError("lookup_radius needs a correlation and a finest resolution that is the latents'")
        self.lookup = Lookup(channels, lookup_radius) if lookup_radius else None
        self.fuse = nn.ModuleList(ConditionedBlock(width, hidden_size) for width in widths)
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in pairwise(widths))
        # At first no task differs from another, and what is not believed to have moved is looked for where it was.
        for name, parameter in self.named_parameters():
            if ".modulation." in name or ".offset." in name:
                nn.init.zeros_(parameter)
        self.norm = nn.GroupNorm(8, channels)
        self.conv_out = nn.Conv2d(channels, out_channels * self.block**2, 3, padding=1)

    @staticmethod
    def sizes(transformer: DiTMoETransformer, codec: ImageCodec) -> dict[str, Any]:
        """See ``PerceptionDecoder``."""
        config = transformer.config
        levels = range(config.stem_levels if config.stem_channels else 0)
        return {
            "resolution": config.sample_size * codec.downscale,
            "sample_size": config.sample_size,
            "grid_size": config.sample_size // config.patch_size,
            "hidden_size": config.hidden_size,
            "in_channels": config.in_channels,
            "stem_channels": [config.stem_channels * 2**level for level in levels],
            "compared_channels": config.stem_channels // 2 if config.correlation_radius else 0,
        }

    def forward(self, class_labels: Tensor, answer: Features) -> Tensor:
        """See ``PerceptionDecoder``; the task is in the condition."""
        x: Tensor | None = None
        for level in reversed(range(len(self.reassemble))):
            y = self.reassemble[level](answer.tokens[level])
            y = y if x is None else y + self.up[level](x)
            i = self.stem_level[level]
            y = y if i is None else y + self.stem_in[level](answer.stem[i])
            if not level and self.lookup and answer.compared:
                y = self._look(self.lookup, y, answer.compared, class_labels)
            x = self.fuse[level](y, answer.condition(self.fuse[level].modulation))  # type: ignore[arg-type]  # modules
        assert x is not None
        images: Tensor = F.pixel_shuffle(self.conv_out(F.silu(self.norm(x))), self.block)
        return images

    def _look(self, lookup: Lookup, x: Tensor, compared: tuple[Tensor, Tensor], class_labels: Tensor) -> Tensor:
        """Once more, for the samples that have something to compare; a thin stem has compared those alone."""
        matched: Matched | None = self.matching(class_labels)
        if not matched:
            return x
        one, other = compared if self.stem else (matched.of(side) for side in compared)
        own = matched.of(x)
        found: Tensor = lookup(own, one, other)
        return matched.add(x, found - own)
