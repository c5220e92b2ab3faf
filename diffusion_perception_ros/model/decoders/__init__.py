"""Decoders of perception, which take the place of the image codec's."""

from __future__ import annotations

from diffusion_perception_ros.model.decoders.decoder import FULL, PerceptionDecoder
from diffusion_perception_ros.model.decoders.features import FeatureDecoder
from diffusion_perception_ros.model.decoders.folder import load_decoder, save_decoder
from diffusion_perception_ros.model.decoders.latent import LatentDecoder

__all__ = ["DECODERS", "FULL", "FeatureDecoder", "LatentDecoder", "PerceptionDecoder", "load_decoder", "save_decoder"]

DECODERS = (FULL, LatentDecoder.name, FeatureDecoder.name)
