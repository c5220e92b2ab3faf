"""A short bag, replayed end to end, and a picture of what came out."""

from __future__ import annotations

from diffusion_perception_ros.demo.demo import DemoResult, run_demo

__all__ = ["DemoResult", "run_demo"]
