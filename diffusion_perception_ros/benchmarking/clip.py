"""What a camera sees: a clip without end, made of nothing."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

# How far the camera pans before it turns back, and how far from frame to frame, in pixels.
_REACH, _SPEED = 48, 3

Arguments = tuple[NDArray[np.uint8], NDArray[np.uint8] | None, NDArray[np.uint8] | None]


class Clip:
    """A camera that pans to and fro over a textured wall, with objects that stand before it.

    Args:
        width: Of a frame, in pixels.
        height: Likewise.
        instances: How many objects there are.
    """

    def __init__(self, width: int, height: int, instances: int) -> None:
        random = np.random.default_rng(0)
        wall = _texture(random, height, width + _REACH)
        self.visible_masks: NDArray[np.uint8] = np.zeros((height, width), np.uint8)
        objects = _texture(random, height, width)
        for i in range(instances):
            center = (int(width * (i + 1) / (instances + 1)), int(height * (0.4 + 0.2 * (i % 2))))
            axes = (max(width // (4 * instances), 2), max(height // 5, 2))
            cv2.ellipse(self.visible_masks, center, axes, 0, 0, 360, i + 1, -1)
        there = range(0, _REACH, _SPEED)
        is_object = self.visible_masks[..., None] > 0
        self._frames = [np.where(is_object, objects, wall[:, x : x + width]) for x in (*there, *reversed(there))]

    def frame(self, i: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB; the clip begins anew after some."""
        return self._frames[i % len(self._frames)]

    def arguments(self, i: int, tasks: Sequence[str]) -> Arguments:
        """Frame i, the next one and the visible masks, as far as the tasks need them."""
        next_frame = self.frame(i + 1) if "flow" in tasks else None
        return self.frame(i), next_frame, self.visible_masks if "amodal" in tasks else None


def _texture(random: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Noise of several sizes."""
    layers = [
        cv2.resize(
            random.random((max(height // cell, 1), max(width // cell, 1), 3), np.float32),
            (width, height),
            interpolation=cv2.INTER_CUBIC,
        )
        for cell in (64, 16, 4)
    ]
    mean: NDArray[np.float32] = np.mean(np.stack(layers), axis=0)
    return np.clip(255 * mean, 0, 255).astype(np.uint8)
