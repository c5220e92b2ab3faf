"""Outlines of flat cut-outs: leaves and blobs, people, animals and written strokes.

Outlines live in [-1, 1]^2 with y up. Their parameters fill the first columns of `Primitives.shape`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SHAPE_SIZE = 40
_HARMONICS = 5
_CAPSULES = 8


def blob_margin(x: Tensor, y: Tensor, shape: Tensor) -> Tensor:
    """How far inside the outline r(angle) a point lies; negative outside.

    Args:
        x: Abscissa.
        y: Ordinate.
        shape: (11+, ...) mean radius, then cosine and sine amplitudes of five harmonics.
    """
    distance = (x * x + y * y).clamp(min=1e-12).sqrt()
    cosine, sine = x / distance, y / distance
    outline = shape[0]
    c, s = torch.ones_like(cosine), torch.zeros_like(sine)
    for k in range(_HARMONICS):
        # Angle addition, so that no trigonometric function is called.
        c, s = c * cosine - s * sine, s * cosine + c * sine
        outline = outline + shape[1 + 2 * k] * c + shape[2 + 2 * k] * s
    return outline - distance


def figure_margin(x: Tensor, y: Tensor, shape: Tensor) -> Tensor:
    """How far inside the union of capsules a point lies; negative outside.

    Args:
        x: Abscissa.
        y: Ordinate.
        shape: (40, ...) eight times two ends (x, y, x, y) and a radius, 0 for no capsule.
    """
    margin = torch.full_like(x, -1.0)
    for k in range(_CAPSULES):
        ax, ay, bx, by, radius = shape[5 * k : 5 * k + 5]
        dx, dy = bx - ax, by - ay
        along = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy + 1e-9)).clamp(0, 1)
        distance = ((x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2).sqrt()
        margin = torch.maximum(margin, radius - distance)
    return margin


def draw_blob(rng: np.random.Generator) -> NDArray[np.float64]:
    """(40,) outline of a blob, a leaf or a star, within the unit square."""
    amplitudes = rng.normal(0, 1, (_HARMONICS, 2)) * np.array([0.12, 0.2, 0.15, 0.1, 0.08])[:, None]
    lobes = rng.integers(0, 3)
    if lobes:  # a star or a leaf with three to five fingers
        amplitudes[1 + lobes] = rng.uniform(0.25, 0.4) * np.array([np.cos(lobes), np.sin(lobes)])
    shape = np.zeros(SHAPE_SIZE)
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    order = np.arange(1, _HARMONICS + 1)[:, None]
    outline = 1 + (amplitudes[:, :1] * np.cos(order * angle) + amplitudes[:, 1:] * np.sin(order * angle)).sum(0)
    # Lifted so that the thinnest place keeps some width, then scaled into the square.
    mean = 1 + max(0.0, 0.2 - float(outline.min()))
    scale = 0.98 / (float(outline.max()) + mean - 1)
    shape[0] = mean * scale
    shape[1 : 1 + 2 * _HARMONICS] = amplitudes.reshape(-1) * scale
    return shape


def draw_person(rng: np.random.Generator) -> NDArray[np.float64]:
    """(40,) outline of a standing or walking person, feet at y = -1, head up to y = 1; to be used 2 wide and 2 high."""
    stride, sway = rng.uniform(0.02, 0.28), rng.uniform(-0.05, 0.05)
    shoulder, hip = rng.uniform(0.16, 0.23), rng.uniform(0.09, 0.14)
    build = rng.uniform(0.9, 1.25)
    capsules = [(sway, 0.78, sway, 0.87, 0.125), (sway, 0.5, 0.0, 0.0, 0.18 * build)]
    for side in (-1, 1):
        knee = side * hip + stride * side * 0.6 + rng.uniform(-0.04, 0.04)
        foot = side * hip + stride * side
        capsules += [(side * hip, 0.0, knee, -0.48, 0.1 * build), (knee, -0.48, foot, -0.92, 0.08)]
        hand = rng.uniform(-0.1, 0.35)
        arm = side * (shoulder + rng.uniform(0.03, 0.25))
        capsules.append((sway + side * (shoulder - 0.04), 0.52, arm, hand - 0.1, 0.065 * build))
    return _figure(capsules)


def draw_animal(rng: np.random.Generator) -> NDArray[np.float64]:
    """(40,) outline of a four-legged animal seen from the side, feet at y = -1."""
    neck, leg = rng.uniform(0.2, 0.8), rng.uniform(0.09, 0.13)
    body = rng.uniform(0.26, 0.4)
    capsules = [(-0.5, 0.05, 0.45, 0.08, body), (0.5, 0.15, 0.72, 0.15 + neck * 0.7, 0.17)]
    capsules.append((0.72, 0.15 + neck * 0.7, 0.88, 0.1 + neck * 0.6, 0.12))
    capsules.append((-0.65, 0.15, -0.92, rng.uniform(-0.3, 0.5), 0.06))
    legs = [(x, -0.1, x + rng.uniform(-0.15, 0.15), -1 + leg, leg) for x in (-0.65, -0.45, 0.4, 0.62)]
    return _figure(capsules + legs)


def draw_strokes(rng: np.random.Generator) -> NDArray[np.float64]:
    """(40,) a connected tangle of strokes, like a letter, a branch or a tool."""
    capsules = []
    points = [rng.uniform(-0.7, 0.7, 2)]
    width = rng.uniform(0.08, 0.24)
    for _ in range(int(rng.integers(3, _CAPSULES + 1))):
        start = points[int(rng.integers(len(points)))]
        end = np.clip(start + rng.normal(0, 0.6, 2), -0.75, 0.75)
        points.append(end)
        capsules.append((*start, *end, width * rng.uniform(0.7, 1.0)))
    return _figure(capsules)


def _figure(capsules: Sequence[tuple[float, ...]]) -> NDArray[np.float64]:
    shape = np.zeros(SHAPE_SIZE)
    shape[: 5 * len(capsules)] = np.reshape(capsules, -1)
    return shape
