"""Image codecs: images in [-1, 1] to scaled latents and back, one interface for every autoencoder."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor


class ImageCodec:
    """An autoencoder of diffusers, with latents in the scale that the transformer was trained on.

    Args:
        vae: ``AutoencoderKL``, used deterministically (the posterior's mean, no sampling), or its distilled
            drop-in ``AutoencoderTiny``.

    Attributes:
        vae: The module.
        latent_channels: Channels of a latent.
        downscale: Image pixels per latent pixel, along a side.
    """

    def __init__(self, vae: AutoencoderKL | AutoencoderTiny) -> None:
        self.vae = vae
        self.latent_channels: int = vae.config.latent_channels
        tiny = isinstance(vae, AutoencoderTiny)
        blocks = vae.config.encoder_block_out_channels if tiny else vae.config.block_out_channels
        self.downscale: int = 2 ** (len(blocks) - 1)

    @property
    def name(self) -> str:
        """Class name of the autoencoder."""
        return type(self.vae).__name__

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] to (B, latent_channels, H / downscale, W / downscale)."""
        encoded = self.vae.encode(images)
        if isinstance(self.vae, AutoencoderKL):
            mean: Tensor = encoded.latent_dist.mean
            return mean * float(self.vae.config.scaling_factor)
        # AutoencoderTiny was distilled to scaled latents.
        latents: Tensor = encoded.latents
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """(B, latent_channels, h, w) to (B, 3, h * downscale, w * downscale), nominally in [-1, 1]."""
        if isinstance(self.vae, AutoencoderKL):
            latents = latents / self.vae.config.scaling_factor
        images: Tensor = self.vae.decode(latents).sample
        return images

    def to(self, device: torch.device) -> ImageCodec:
        """Moves the weights in place."""
        self.vae.to(device)
        return self
