"""Predictions as colours over a fixed range: the same colour means the same in every frame."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions.fields import bounding_box
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.predictions import AmodalInstance

_ANGLES = 1024
_RADII = 256
_GOLDEN_RATIO = 0.6180339887498949
_VISIBLE_OPACITY = 0.3
_HIDDEN_OPACITY = 0.65


def depth_color(depth: NDArray[np.float32], median: float | None = None) -> NDArray[np.uint8]:
    """Relative depth in the colours of the Turbo map, near red to far blue.

    Args:
        depth: (H, W) float32, larger is farther; in [0, 1] if ``median`` is None. Clipped. NaN becomes black.
        median: The depth in the middle of the colours, for depth that is known up to scale. Colours then follow
            depth^2 / (depth^2 + median^2): half the median is a fifth of the way, twice the median four fifths, and
            infinity the end. None for colours that are linear between 0 and 1.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    share = depth if median is None else 1 - 1 / (1 + np.square(np.maximum(depth, 0) / np.float32(median)))
    levels = cv2.convertScaleAbs(np.clip(share, 0.0, 1.0), alpha=255.0)
    color = np.asarray(cv2.applyColorMap(levels, _near_to_far()), np.uint8)
    color[np.isnan(depth)] = 0
    return color


def flow_color(flow: NDArray[np.float32], max_magnitude: float) -> NDArray[np.uint8]:
    """Optical flow in the Middlebury colour wheel.

    The wheel is that of Baker et al., "A Database and Evaluation Methodology for Optical Flow" (2007).
    Hue is the direction (right red, down yellow, left cyan, up violet), saturation the length: white is no
    motion, full colour ``max_magnitude``. Longer vectors are darkened.

    Args:
        flow: (H, W, 2) float32 pixels, u right and v down. Vectors that are not finite become black.
        max_magnitude: The length in pixels that is drawn in full colour.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        InputError: If ``max_magnitude`` is not positive.
    """
    if not max_magnitude > 0:
        raise InputError(f"max_magnitude is {max_magnitude}; it must be a positive number of pixels")
    magnitude, angle = cv2.cartToPolar(np.ascontiguousarray(flow[..., 0]), np.ascontiguousarray(flow[..., 1]))
    invalid = ~np.isfinite(magnitude)
    magnitude[invalid] = 0
    angle[invalid] = 0
    # The last radius of the wheel is everything beyond the range.
    beyond = np.float32(max_magnitude * _RADII / (_RADII - 1))
    radius = np.minimum(magnitude, beyond) * ((_RADII - 1) / max_magnitude) + 0.5
    index = (angle * (_ANGLES / (2 * np.pi)) + 0.5).astype(np.int32) % _ANGLES
    index *= _RADII + 1
    index += radius.astype(np.int32)
    color = _flow_wheel()[index]
    color[invalid] = 0
    channels = color.view(np.uint8).reshape(*color.shape, 4)
    return np.asarray(cv2.cvtColor(channels, cv2.COLOR_BGRA2BGR), np.uint8)


def normal_color(normals: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Surface normals in the usual colours: red to the right, green up, blue towards the camera.

    Args:
        normals: (H, W, 3) float32 unit vectors in the optical frame (x right, y down, z forward). Vectors that are not
            finite, or zero, become black.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    blue_green_red = normals[..., ::-1] * np.array([-1, -1, 1], np.float32)
    known = np.isfinite(normals).all(axis=2, keepdims=True) & (np.abs(normals).sum(axis=2, keepdims=True) > 0)
    levels = np.where(known, np.clip(blue_green_red * 127.5 + 127.5, 0, 255), 0)
    colors: NDArray[np.uint8] = np.rint(levels).astype(np.uint8)
    return colors


def amodal_overlay(image_rgb: NDArray[np.uint8], instances: Sequence[AmodalInstance]) -> NDArray[np.uint8]:
    """The image with every instance tinted, its hidden part stronger, and its full shape outlined.

    Args:
        image_rgb: (H, W, 3) uint8 RGB.
        instances: With masks of the image's size. An id keeps its colour from frame to frame.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    canvas = image_rgb[..., ::-1].copy()
    line_width = max(1, round(min(canvas.shape[:2]) / 160))
    boxes = [bounding_box(instance.mask) for instance in instances]
    for instance, (x, y, width, height) in zip(instances, boxes, strict=True):
        crop = slice(y, y + height), slice(x, x + width)
        region, mask, visible = canvas[crop], instance.mask[crop], instance.visible_mask[crop]
        for part, opacity in ((mask & visible, _VISIBLE_OPACITY), (mask & ~visible, _HIDDEN_OPACITY)):
            tint = np.float32(opacity) * np.array(_instance_color(instance.id), np.float32)
            region[part] = (region[part] * np.float32(1 - opacity) + tint).astype(np.uint8)
    # Outlines last, so that no fill covers them.
    for instance, (x, y, width, height) in zip(instances, boxes, strict=True):
        shape = instance.mask[y : y + height, x : x + width].astype(np.uint8)
        contours, _ = cv2.findContours(shape, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y))
        cv2.drawContours(canvas, contours, -1, _instance_color(instance.id), line_width, cv2.LINE_AA)
    return canvas


@cache
def _near_to_far() -> NDArray[np.uint8]:
    """(256, 1, 3) BGR: Turbo backwards, without its darkest end colours, which would pass for invalid."""
    positions = np.linspace(0.96, 0.04, 256) * 255
    levels = np.rint(positions).astype(np.uint8).reshape(256, 1)
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), np.uint8)


@cache
def _flow_wheel() -> NDArray[np.uint32]:
    """The packed BGR0 colour of every direction and length, index ``angle * (_RADII + 1) + radius``.

    The arithmetic is that of the Middlebury ``colorcode.cpp``; a direction is an angle from u towards v.
    """
    anchors = np.array(
        [(255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255), (255, 0, 0)],
        float,
    )
    steps = np.cumsum([0, 15, 6, 4, 11, 13, 6])  # red-yellow, -green, -cyan, -blue, -magenta, -red
    hues = np.arange(_ANGLES) / _ANGLES * (steps[-1] - 1)  # as there: the wheel is not quite closed
    full = np.stack([np.interp(hues, steps, channel) for channel in anchors.T], axis=-1) / 255
    saturation = np.arange(_RADII)[:, None] / (_RADII - 1)
    wheel = np.empty((_ANGLES, _RADII + 1, 4), np.uint8)
    wheel[:, :_RADII, 2::-1] = 255 * (1 - saturation * (1 - full[:, None]))
    wheel[:, _RADII, 2::-1] = 255 * 0.75 * full
    wheel[..., 3] = 0
    return wheel.reshape(-1, 4).view(np.uint32)[:, 0]


@cache
def _instance_color(instance_id: int) -> tuple[int, int, int]:
    """BGR; steps of the golden ratio around the hue circle keep neighbouring ids far apart."""
    hue = np.float32(360 * (instance_id * _GOLDEN_RATIO % 1))
    blue, green, red = cv2.cvtColor(np.array([[[hue, 0.85, 1.0]]], np.float32), cv2.COLOR_HSV2BGR)[0, 0]
    return round(255 * float(blue)), round(255 * float(green)), round(255 * float(red))
