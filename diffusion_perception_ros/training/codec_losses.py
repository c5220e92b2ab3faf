"""Losses of the image codec."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_perception_ros.training.batches import Questions
from diffusion_perception_ros.training.codec_config import CodecConfig
from diffusion_perception_ros.training.codec_pictures import codec_pictures

_SCALES = 4


class CodecLosses:
    """What a batch costs: mean absolute error, its gradients, and the divergence of the latents.

    Args:
        config: Of the run.
    """

    def __init__(self, config: CodecConfig) -> None:
        self.config = config

    def __call__(
        self, network: nn.Module, batch: Sequence[Questions], rng: np.random.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and its parts without their weights: the mean absolute error of each kind of picture."""
        weights = self.config.loss
        pictures = codec_pictures(self.config, batch)
        images = torch.cat(list(pictures.values()))
        reconstructions, divergence = network(images, self._noise(images, rng) if weights.kl else None)
        error = reconstructions.float() - images
        absolute, gradient = error.abs().mean(dim=(1, 2, 3)), gradient_loss(error)
        total = (absolute + weights.gradient * gradient + weights.kl * divergence).mean()
        counts = [len(x) for x in pictures.values()]
        parts = {f"l1_{kind}": x.mean() for kind, x in zip(pictures, absolute.split(counts), strict=True)}
        return total, {**parts, "gradient": gradient.mean(), "kl": divergence.mean()}

    def _noise(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        codec = self.config.codec
        side = self.config.resolution // codec.downscale
        noise = rng.standard_normal((len(images), codec.latent_channels, side, side), dtype=np.float32)
        return torch.from_numpy(noise).to(images.device)


def gradient_loss(error: Tensor) -> Tensor:
    """(B,) mean absolute gradient of an error (B, C, H, W), summed over scales from full to an eighth.

    The multi-scale gradient matching of Li & Snavely 2018 (MegaDepth, arXiv 1804.00607), here of any picture. An edge
    that is blurred costs at the fine scales, a surface that is tinted at none.
    """
    total = error.new_zeros(len(error))
    for scale in range(_SCALES):
        if scale:
            error = F.avg_pool2d(error, 2)
        if min(error.shape[-2:]) < 2:
            break
        for dim in (-2, -1):
            total = total + error.diff(dim=dim).abs().mean(dim=(1, 2, 3))
    return total
