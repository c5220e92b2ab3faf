"""Pictures, folders and videos in; colour PNGs and plain number files out."""

from __future__ import annotations

from diffusion_perception_ros.media.predict import PredictJob
from diffusion_perception_ros.media.settings import PredictSettings
from diffusion_perception_ros.media.summary import PredictSummary

__all__ = ["PredictJob", "PredictSettings", "PredictSummary"]
