"""Bags in, bags out: recorded camera images become recorded depth, flow and amodal masks, without ROS."""

from __future__ import annotations

from diffusion_perception_ros.replay.replay import Replay, replay
from diffusion_perception_ros.replay.settings import ReplaySettings
from diffusion_perception_ros.replay.summary import ReplaySummary

__all__ = ["Replay", "ReplaySettings", "ReplaySummary", "replay"]
