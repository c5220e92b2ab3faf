"""The stages: which one a configuration is of."""

from __future__ import annotations

from typing import Any

import torch

from diffusion_perception_ros.training.codec_config import CodecConfig
from diffusion_perception_ros.training.codec_stage import CodecStage
from diffusion_perception_ros.training.config import TrainingConfig
from diffusion_perception_ros.training.decoder_config import DecoderConfig
from diffusion_perception_ros.training.decoder_stage import DecoderStage
from diffusion_perception_ros.training.generalist_config import GeneralistConfig
from diffusion_perception_ros.training.generalist_stage import GeneralistStage
from diffusion_perception_ros.training.stage import Stage


def make_stage(config: TrainingConfig, device: torch.device) -> Stage[Any]:
    """The stage of a run.

    Args:
        config: Of the run.
        device: Of everything but the network, which a run places.

    Raises:
        InputError: The sizes in the configuration do not fit each other, or a folder that it names cannot be used.
    """
    if isinstance(config, CodecConfig):
        return CodecStage(config, device)
    if isinstance(config, DecoderConfig):
        return DecoderStage(config, device)
    assert isinstance(config, GeneralistConfig)
    return GeneralistStage(config, device)
