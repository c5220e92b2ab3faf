"""Scenes recorded, replayed and compared with the truth, and a picture of all that."""

from __future__ import annotations

from diffusion_perception_ros.demo.demo import DemoResult, DemoSettings, run_demo

__all__ = ["DemoResult", "DemoSettings", "run_demo"]
