"""The autoencoder of stage 1, as it is trained."""

from __future__ import annotations

import math

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor, nn

from diffusion_perception_ros.training.codec_config import CodecConfig

# As Stable Diffusion's autoencoder has them at the image's own resolution, and as many groups at all others.
_CHANNELS_PER_GROUP, _MOST_GROUPS = 4, 32


class CodecNetwork(nn.Module):
    """There and back.

    Args:
        vae: The autoencoder.
    """

    def __init__(self, vae: AutoencoderKL | AutoencoderTiny) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, images: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Images through latents that are drawn with the noise, or, without, are the means of their distributions.

        Args:
            images: (B, 3, H, W) in [-1, 1].
            noise: (B, latent_channels, H / downscale, W / downscale) standard normal, for ``AutoencoderKL`` alone.

        Returns:
            (B, 3, H, W) reconstructions, and (B,) Kullback-Leibler divergences from the standard normal distribution
            (Kingma & Welling 2014, appendix B), means over the values of a latent; 0 without noise.
        """
        encoded = self.vae.encode(images)
        divergence = images.new_zeros(len(images))
        if noise is None:
            latents = encoded.latents if isinstance(self.vae, AutoencoderTiny) else encoded.latent_dist.mean
        else:
            mean, log_variance = encoded.latent_dist.mean.float(), encoded.latent_dist.logvar.float()
            latents = mean + (log_variance / 2).exp() * noise
            divergence = (mean.square() + log_variance.exp() - 1 - log_variance).mean(dim=(1, 2, 3)) / 2
        reconstructions: Tensor = self.vae.decode(latents).sample
        return reconstructions, divergence


def make_network(config: CodecConfig) -> CodecNetwork:
    """The network a run starts from: random weights, by the seed."""
    sizes = config.codec
    channels, levels = sizes.block_channels, len(sizes.block_channels)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(config.seed)
        if sizes.kind == "AutoencoderTiny":
            vae = AutoencoderTiny(
                encoder_block_out_channels=channels,
                decoder_block_out_channels=channels,
                num_encoder_blocks=(sizes.blocks,) * levels,
                num_decoder_blocks=(sizes.blocks,) * levels,
                latent_channels=sizes.latent_channels,
            )
        else:
            common = math.gcd(*channels, _CHANNELS_PER_GROUP * _MOST_GROUPS)
            vae = AutoencoderKL(
                block_out_channels=channels,
                down_block_types=("DownEncoderBlock2D",) * levels,
                up_block_types=("UpDecoderBlock2D",) * levels,
                latent_channels=sizes.latent_channels,
                layers_per_block=sizes.blocks,
                norm_num_groups=max(1, common // _CHANNELS_PER_GROUP),
                sample_size=config.resolution,
                scaling_factor=1.0,
                # Without attention, time grows with the pixels and any resolution is as good as that of training.
                mid_block_add_attention=False,
            )
    return CodecNetwork(vae.train())
