"""Checkpoints with random weights, in the released architecture: for tests, benchmarks and dry runs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from diffusion_perception_ros.model.codec import AutoencoderCodec, lay_out
from diffusion_perception_ros.model.transformer import DiTMoETransformer, cast, channels_last

# Stable Diffusion 2's schedule, with the v-prediction of its 768 px version.
SCHEDULER_CONFIG = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


def random_transformer(seed: int = 0, dtype: torch.dtype = torch.float32, **config: object) -> DiTMoETransformer:
    """A generalist whose every weight matters: the zero-initialised layers are random too.

    Args:
        seed: Of the weights.
        dtype: Of the weights.
        config: Arguments of ``DiTMoETransformer``.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        transformer: DiTMoETransformer = DiTMoETransformer(**config)
        for name, parameter in transformer.named_parameters():
            if "adaLN_modulation" in name or "final_layer" in name or name.endswith("bias"):
                nn.init.normal_(parameter, std=0.05)
    cast(transformer, dtype)
    channels_last(transformer)
    transformer.eval().requires_grad_(False)
    return transformer


def random_codec(
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    channels: Sequence[int] = (8, 16, 16, 16),
    layers_per_block: int = 1,
    norm_num_groups: int = 4,
) -> AutoencoderCodec:
    """A KL autoencoder of Stable Diffusion's architecture, small by default.

    Stable Diffusion's own has the channels 128, 256, 512, 512, 2 layers in a block and 32 groups.
    """
    from diffusers import AutoencoderKL  # noqa: PLC0415  # see codec.py

    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        vae = AutoencoderKL(
            block_out_channels=channels,
            down_block_types=("DownEncoderBlock2D",) * len(channels),
            up_block_types=("UpDecoderBlock2D",) * len(channels),
            latent_channels=4,
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
        )
    vae.requires_grad_(False)
    cast(vae, dtype)
    lay_out(vae)
    return AutoencoderCodec(vae.eval())
