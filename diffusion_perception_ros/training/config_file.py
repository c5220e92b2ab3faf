"""Reading of the YAML file that says what to train."""

from __future__ import annotations

from pathlib import Path

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.training.codec_config import CodecConfig
from diffusion_perception_ros.training.config import TrainingConfig
from diffusion_perception_ros.training.decoder_config import DecoderConfig
from diffusion_perception_ros.training.generalist_config import GeneralistConfig
from diffusion_perception_ros.training.inheritance import read_settings
from diffusion_perception_ros.training.schema import build

_STAGES: dict[str, type[TrainingConfig]] = {
    "generalist": GeneralistConfig,
    "codec": CodecConfig,
    "decoder": DecoderConfig,
}


def load_config(path: Path) -> TrainingConfig:
    """Read a YAML file; its ``stage`` is ``generalist``, which is the default, ``codec`` or ``decoder``.

    It may be based on others, see ``read_settings``.

    Raises:
        InputError: It cannot be read, or a setting is unknown, missing or of the wrong type.
    """
    values = read_settings(path)
    stage = values.pop("stage", "generalist")
    if stage not in _STAGES:
        raise InputError(f"{path}.stage is {stage!r}; use one of {', '.join(_STAGES)}.")
    return build(_STAGES[stage], values, str(path))
