"""A small decoder of latents, for tasks that look at the mean of the three channels alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from diffusion_perception_ros.model.codec import ImageCodec
from diffusion_perception_ros.model.decoders.decoder import PerceptionDecoder
from diffusion_perception_ros.model.transformer import DiTMoETransformer


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with ReLU and no norms, as in tiny autoencoders."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        return F.relu(x + self.conv2(F.relu(self.conv1(x))))


class LatentDecoder(PerceptionDecoder):
    """Predicted latents to images of one channel, many times faster than the decoder of an autoencoder.

    Nearly all of it works at the latent's resolution; the last convolution writes blocks of pixels (Shi et al. 2016,
    arXiv 1609.05158). It is distilled against the codec's decoder, which no task shows in colour; each class label has
    a bias of its own, since depth, displacements and masks look nothing alike.

    Args:
        tasks: Class labels of the tasks that it serves, by task.
        latent_channels: Channels of a latent.
        downscale: Image pixels per latent pixel, along a side.
        channels: Of the convolutions.
        blocks: Residual blocks.
        out_channels: 1, or 3 where a task's channels differ from each other.
    """

    name: ClassVar[str] = "latent"

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        tasks: Mapping[str, Sequence[int]],
        latent_channels: int,
        downscale: int,
        channels: int = 64,
        blocks: int = 4,
        out_channels: int = 1,
    ) -> None:
        super().__init__()
        self.stem = None
        labels = sorted(self.labels)
        self.downscale = downscale
        self.label_bias = nn.Embedding(len(labels), channels)
        nn.init.zeros_(self.label_bias.weight)
        self.conv_in = nn.Conv2d(latent_channels, channels, 3, padding=1)
        self.residual = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.conv_out = nn.Conv2d(channels, out_channels * downscale**2, 3, padding=1)
        row_of_label = torch.zeros(max(labels) + 1, dtype=torch.long)
        row_of_label[labels] = torch.arange(len(labels))
        self.register_buffer("row_of_label", row_of_label, persistent=False)
        self.row_of_label: Tensor

    @staticmethod
    def sizes(transformer: DiTMoETransformer, codec: ImageCodec) -> dict[str, Any]:
        """See ``PerceptionDecoder``."""
        return {"latent_channels": codec.latent_channels, "downscale": codec.downscale}

    def forward(self, class_labels: Tensor, answer: Tensor) -> Tensor:
        """See ``PerceptionDecoder``."""
        bias = self.label_bias(self.row_of_label[class_labels])
        x = F.relu(self.conv_in(answer) + bias[..., None, None])
        images: Tensor = F.pixel_shuffle(self.conv_out(self.residual(x)), self.downscale)
        return images
