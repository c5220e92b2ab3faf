"""Between the camera's image and the square that the network sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

RESIZE_MODES = ("squash", "letterbox")


@dataclass(frozen=True)
class Geometry:
    """Maps (height, width) images to (resolution, resolution) ones and back.

    ``squash`` ignores the aspect ratio, as the released code does; ``letterbox`` keeps it and pads with grey.
    """

    height: int
    width: int
    resolution: int
    mode: str = "squash"

    @property
    def content(self) -> tuple[int, int]:
        """(height, width) that the image covers inside the square, in network pixels."""
        if self.mode == "squash":
            return self.resolution, self.resolution
        scale = self.resolution / max(self.height, self.width)
        return max(1, round(self.height * scale)), max(1, round(self.width * scale))

    @property
    def pixel_scale(self) -> tuple[float, float]:
        """(x, y) input pixels per network pixel."""
        content_height, content_width = self.content
        return self.width / content_width, self.height / content_height

    def _box(self) -> tuple[slice, slice]:
        height, width = self.content
        top, left = (self.resolution - height) // 2, (self.resolution - width) // 2
        return slice(top, top + height), slice(left, left + width)

    def to_network(self, image: Tensor, interpolation: str) -> Tensor:
        """(C, height, width) float to (C, resolution, resolution)."""
        if (self.height, self.width) != self.content:
            image = resize(image, self.content, interpolation)
        if self.content == (self.resolution, self.resolution):
            return image
        square = image.new_zeros(image.shape[0], self.resolution, self.resolution)
        rows, columns = self._box()
        square[:, rows, columns] = image
        return square

    def to_input(self, prediction: Tensor) -> Tensor:
        """(..., resolution, resolution) to (..., height, width), bilinear."""
        rows, columns = self._box()
        prediction = prediction[..., rows, columns]
        if (self.height, self.width) == self.content:
            return prediction
        leading = prediction.shape[:-2]
        flat = prediction.reshape(1, -1, *prediction.shape[-2:])
        return resize(flat[0], (self.height, self.width), "bilinear").reshape(*leading, self.height, self.width)


def resize(image: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """(C, H, W) float to (C, *size).

    ``bilinear`` does not filter before it shrinks, because the released code did not either; ``area`` does
    (the mean of the pixels a new one covers), for checkpoints trained on smoothly shrunk images.
    """
    align_corners = False if interpolation == "bilinear" else None
    return F.interpolate(image.unsqueeze(0), size=size, mode=interpolation, align_corners=align_corners)[0]


def image_to_tensor(image: Tensor) -> Tensor:
    """(H, W, 3) uint8 to (3, H, W) float32 in [-1, 1]."""
    return image.permute(2, 0, 1).to(torch.float32).div_(127.5).sub_(1.0)
