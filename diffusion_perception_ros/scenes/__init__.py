"""A procedural world with exact ground truth: seeds in; images, depth, flow, masks, normals and poses out."""

from diffusion_perception_ros.scenes.draw import draw_scene
from diffusion_perception_ros.scenes.pairs import Pairs, render_pairs
from diffusion_perception_ros.scenes.render import Frames, render, render_images
from diffusion_perception_ros.scenes.scene import EVALUATION_SEED, MAX_INSTANCES, Scene

__all__ = [
    "EVALUATION_SEED",
    "MAX_INSTANCES",
    "Frames",
    "Pairs",
    "Scene",
    "draw_scene",
    "render",
    "render_images",
    "render_pairs",
]
