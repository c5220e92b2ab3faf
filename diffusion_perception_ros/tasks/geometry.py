"""Between the camera's image and the square that the network sees."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

RESIZE_MODES = ("squash", "letterbox")


@dataclass(frozen=True)
class Region:
    """A rectangle of whole pixels inside an image."""

    top: int
    left: int
    height: int
    width: int

    @classmethod
    def around(cls, mask: NDArray[np.bool_], context: float, smallest: float) -> Region:
        """The square around a mask; where it would reach beyond the image it is moved, and cut if that is not enough.

        Args:
            mask: (H, W), True somewhere.
            context: Its side, in longer sides of the mask's bounding box.
            smallest: Its least side, in shorter sides of the image.
        """
        bounds = [np.flatnonzero(mask.any(axis=axis))[[0, -1]] + (0, 1) for axis in (1, 0)]
        side = max(context * max(last - first for first, last in bounds), smallest * min(mask.shape))
        sizes = [min(max(round(side), 1), size) for size in mask.shape]
        (top, height), (left, width) = (
            (int(np.clip((first + last - size) // 2, 0, whole - size)), size)
            for (first, last), size, whole in zip(bounds, sizes, mask.shape, strict=True)
        )
        return cls(top, left, height, width)

    def moved(self, down: float, right: float, height: int, width: int) -> Region:
        """By so many pixels, as far as an image of this size goes on."""
        top, left = round(self.top + down), round(self.left + right)
        return replace(self, top=min(max(top, 0), height - self.height), left=min(max(left, 0), width - self.width))

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True)
class Geometry:
    """Maps (height, width) images to (resolution, resolution) ones and back.

    ``squash`` ignores the aspect ratio, as the released code does; ``letterbox`` keeps it and pads with grey.
    """

    height: int
    width: int
    resolution: int
    mode: str = "squash"

    def within(self, region: Region | None) -> Geometry:
        """Of a region as if it were the image; of the image itself where it is None."""
        return self if region is None else replace(self, height=region.height, width=region.width)

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

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the square that the image covers."""
        height, width = self.content
        top, left = (self.resolution - height) // 2, (self.resolution - width) // 2
        return slice(top, top + height), slice(left, left + width)

    def to_network(self, image: Tensor, interpolation: str, fill: float = 0.0) -> Tensor:
        """(C, height, width) float to (C, resolution, resolution), ``fill`` where there is no image."""
        if (self.height, self.width) != self.content:
            image = resize(image, self.content, interpolation)
        if self.content == (self.resolution, self.resolution):
            return image
        square = image.new_full((image.shape[0], self.resolution, self.resolution), fill)
        rows, columns = self.box
        square[:, rows, columns] = image
        return square

    def to_input(self, prediction: Tensor, interpolation: str = "bilinear") -> Tensor:
        """(..., resolution, resolution) to (..., height, width)."""
        rows, columns = self.box
        prediction = prediction[..., rows, columns]
        if (self.height, self.width) == self.content:
            return prediction
        leading = prediction.shape[:-2]
        flat = prediction.reshape(1, -1, *prediction.shape[-2:])
        return resize(flat[0], (self.height, self.width), interpolation).reshape(*leading, self.height, self.width)


def _enlarge(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, by the library that takes a quarter of the time on a CPU; channels are then last in memory."""
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    height, width = size
    enlarged = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(enlarged.reshape(height, width, len(image))).permute(2, 0, 1)


def resize(image: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """(C, H, W) float to (C, *size).

    ``bilinear`` does not filter before it shrinks, because the released code did not either; ``area`` does
    (the mean of the pixels a new one covers), for checkpoints trained on smoothly shrunk images; what it enlarges is
    interpolated, as there is nothing to average.
    """
    enlarges = size[0] >= image.shape[-2] and size[1] >= image.shape[-1]
    if interpolation == "area" and enlarges:
        interpolation = "bilinear"
    if interpolation == "bilinear" and enlarges and image.device.type == "cpu":
        return _enlarge(image, size)
    align_corners = False if interpolation == "bilinear" else None
    return F.interpolate(image.unsqueeze(0), size=size, mode=interpolation, align_corners=align_corners)[0]
