"""Frame pairs for training and evaluation: one seed, one pair, one instance to complete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_perception_ros.scenes.draw import draw_scene
from diffusion_perception_ros.scenes.render import render, render_images

# An instance is worth asking for from this share of the image on, and hidden from this share of itself on.
_VISIBLE_ENOUGH = 0.004
_HIDDEN_ENOUGH = 0.08


@dataclass(frozen=True)
class Pairs:
    """Two consecutive frames of each of B scenes, and the truth of the first.

    Attributes:
        image: (B, H, W, 3) uint8 RGB.
        next_image: (B, H, W, 3) uint8 RGB.
        depth: (B, H, W) float32 along z in metres, infinite in the sky.
        normals: (B, H, W, 3) float32 unit normals in the camera's frame, towards the camera; 0 in the sky.
        flow: (B, H, W, 2) float32 pixels right and down from ``image`` to ``next_image``.
        flow_valid: (B, H, W) bool, the place is inside the next image and not hidden in it.
        instance: (B,) int64, the chosen instance, from 1.
        visible: (B, H, W) bool, what is seen of it.
        amodal: (B, H, W) bool, all of it inside the image.
    """

    image: Tensor
    next_image: Tensor
    depth: Tensor
    normals: Tensor
    flow: Tensor
    flow_valid: Tensor
    instance: Tensor
    visible: Tensor
    amodal: Tensor


def render_pairs(seeds: Sequence[int], height: int, width: int, device: torch.device | str = "cpu") -> Pairs:
    """The first two frames of the scene of every seed.

    Of the instances that are large enough one is chosen by the seed, a partly hidden one if there is any; if none is
    large enough, the one of which most is seen.

    Args:
        seeds: At least one; from `EVALUATION_SEED` on never for training.
        height: Of the images in pixels.
        width: Of the images in pixels.
        device: Where to render.

    Raises:
        InputError: No seeds, or images smaller than 8 x 8.
    """
    scenes = [draw_scene(seed) for seed in seeds]
    frames = render(scenes, [0], height, width, device)
    visible, amodal = frames.visible[:, 0], frames.amodal[:, 0]
    instance = _choose(seeds, visible.sum((2, 3)).cpu(), amodal.sum((2, 3)).cpu(), height * width).to(visible.device)
    row = torch.arange(len(scenes), device=visible.device)
    return Pairs(
        frames.image[:, 0],
        render_images(scenes, [1], height, width, device)[:, 0],
        frames.depth[:, 0],
        frames.normals[:, 0],
        frames.flow[:, 0],
        frames.flow_valid[:, 0],
        instance + 1,
        visible[row, instance],
        amodal[row, instance],
    )


def _choose(seeds: Sequence[int], seen: Tensor, whole: Tensor, pixels: int) -> Tensor:
    """(B,) index of one instance, given (B, I) areas."""
    chosen = []
    for seed, visible, amodal in zip(seeds, seen, whole, strict=True):
        large = visible >= _VISIBLE_ENOUGH * pixels
        hidden = large & (amodal - visible > _HIDDEN_ENOUGH * amodal)
        candidates = (hidden if hidden.any() else large).nonzero()[:, 0].tolist()
        chosen.append(candidates[seed % len(candidates)] if candidates else int(visible.argmax()))
    return torch.tensor(chosen)
