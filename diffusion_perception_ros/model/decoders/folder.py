"""Decoders in a checkpoint's folder: ``decoders/<name>/`` with config and weights."""

from __future__ import annotations

from pathlib import Path

import torch

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.decoders.decoder import FULL, PerceptionDecoder
from diffusion_perception_ros.model.decoders.features import FeatureDecoder
from diffusion_perception_ros.model.decoders.latent import LatentDecoder
from diffusion_perception_ros.model.folder import load_weights, share

_KINDS: dict[str, type[PerceptionDecoder]] = {kind.name: kind for kind in (LatentDecoder, FeatureDecoder)}
_FOLDER = "decoders"


def load_decoder(
    folder: Path, name: str, dtype: torch.dtype, device: str | torch.device = "cpu"
) -> PerceptionDecoder | None:
    """A checkpoint's decoder, on the device; None for the codec's own.

    Args:
        folder: Of the checkpoint.
        name: ``full``, ``latent`` or ``features``.
        dtype: Of the weights.
        device: Where to load it to.

    Raises:
        InputError: The checkpoint has no such decoder, or it cannot be read.
    """
    if name == FULL:
        return None
    found = sorted(kind for kind in _KINDS if (folder / _FOLDER / kind / "config.json").is_file())
    if name not in found:
        raise InputError(
            f"{folder}: there is no decoder {name!r} in it; use {' or '.join([FULL, *found])}, or train one "
            "(docs/training.md)."
        )
    decoder: PerceptionDecoder = load_weights(_KINDS[name], folder, f"{_FOLDER}/{name}", dtype, device)
    decoder.to(memory_format=torch.channels_last)
    decoder.eval().requires_grad_(False)
    return decoder


def save_decoder(folder: Path, decoder: PerceptionDecoder) -> None:
    """Write it into a checkpoint's folder, for ``load_decoder``."""
    target = folder / _FOLDER / decoder.name
    decoder.save_pretrained(target)
    share(target)
