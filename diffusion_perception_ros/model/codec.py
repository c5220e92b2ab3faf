"""Image codecs: images in [-1, 1] to scaled latents and back, one interface for all of them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

# Importing autoencoders takes as long as importing torch, and not every checkpoint has one.
if TYPE_CHECKING:
    from diffusers import AutoencoderKL, AutoencoderTiny


class ImageCodec(ABC):
    """Between images and the latents that the transformer was trained on.

    Attributes:
        name: Class name of what encodes and decodes.
        latent_channels: Channels of a latent.
        downscale: Image pixels per latent pixel, along a side.
    """

    name: str
    latent_channels: int
    downscale: int

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] to (B, latent_channels, H / downscale, W / downscale)."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """(B, latent_channels, h, w) to (B, 3, h * downscale, w * downscale), nominally in [-1, 1]."""

    @abstractmethod
    def to(self, device: torch.device) -> ImageCodec:
        """Moves the weights in place."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write config and weights."""


class AutoencoderCodec(ImageCodec):
    """An autoencoder of diffusers; latents are multiplied by the ``scaling_factor`` of its config.

    Args:
        vae: ``AutoencoderKL``, used deterministically (the posterior's mean, no sampling), or ``AutoencoderTiny``,
            whose factor is 1 where it was distilled to the scaled latents of another.
    """

    def __init__(self, vae: AutoencoderKL | AutoencoderTiny) -> None:
        self.vae = vae
        self.name = type(vae).__name__
        self.latent_channels = int(vae.config.latent_channels)
        self._is_kl = self.name == "AutoencoderKL"
        blocks = vae.config.block_out_channels if self._is_kl else vae.config.encoder_block_out_channels
        self.downscale = 2 ** (len(blocks) - 1)

    def encode(self, images: Tensor) -> Tensor:
        """See ``ImageCodec``."""
        encoded = self.vae.encode(images)
        latents: Tensor = encoded.latent_dist.mean if self._is_kl else encoded.latents
        return latents * float(self.vae.config.scaling_factor)

    def decode(self, latents: Tensor) -> Tensor:
        """See ``ImageCodec``."""
        images: Tensor = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return images

    def to(self, device: torch.device) -> AutoencoderCodec:
        """See ``ImageCodec``."""
        self.vae.to(device)
        lay_out(self.vae)
        return self

    def save(self, folder: Path) -> None:
        """See ``ImageCodec``."""
        self.vae.save_pretrained(folder)


def lay_out(vae: AutoencoderKL | AutoencoderTiny) -> None:
    """Kernels, in place, as they are fastest: channels last, but for norms on a GPU, each of which would undo it."""
    has_norms_on_gpu = type(vae).__name__ == "AutoencoderKL" and next(vae.parameters()).is_cuda
    vae.to(memory_format=torch.contiguous_format if has_norms_on_gpu else torch.channels_last)


class PixelUnshuffleCodec(ImageCodec):
    """Rearranges blocks of pixels into channels: no weights, nothing lost.

    For small checkpoints: a small autoencoder drops the texture that optical flow matches.

    Args:
        downscale: Side of a block.
    """

    name = "PixelUnshuffle"

    def __init__(self, downscale: int = 4) -> None:
        self.downscale = downscale
        self.latent_channels = 3 * downscale**2

    def encode(self, images: Tensor) -> Tensor:
        """See ``ImageCodec``; channels last in memory, as the convolutions behind it want them."""
        return F.pixel_unshuffle(images.contiguous(memory_format=torch.channels_last), self.downscale)

    def decode(self, latents: Tensor) -> Tensor:
        """See ``ImageCodec``."""
        return F.pixel_shuffle(latents, self.downscale)

    def to(self, device: torch.device) -> PixelUnshuffleCodec:
        """See ``ImageCodec``."""
        return self

    def save(self, folder: Path) -> None:
        """See ``ImageCodec``."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {"_class_name": self.name, "downscale": self.downscale}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
