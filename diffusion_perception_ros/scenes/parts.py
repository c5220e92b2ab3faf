"""Parts that things are built of; lengths in metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.scenes.rotations import about
from diffusion_perception_ros.scenes.scene import Array, Kind
from diffusion_perception_ros.scenes.silhouettes import SHAPE_SIZE

Rng = np.random.Generator
# A flat cut-out stands upright and shows its outline along x.
_UPRIGHT = about(0, np.pi / 2)


@dataclass(frozen=True)
class Part:
    """One primitive of a thing: its kind, place, size and material, as in `scene.Primitives`."""

    kind: Kind
    center: tuple[float, float, float]
    half_size: tuple[float, float, float]
    material: NDArray[np.float64]
    rotation: Array
    shape: Array
    casts_shadow: bool = True

    @property
    def extent(self) -> Array:
        """(3,) half of its axis-aligned size in the thing's frame."""
        return np.asarray(np.abs(self.rotation) @ np.array(self.half_size))


def part(
    kind: Kind,
    center: tuple[float, float, float],
    half_size: tuple[float, float, float],
    material: NDArray[np.float64],
    rotation: Array | None = None,
    shape: Array | None = None,
    taper: float = 1.0,
) -> Part:
    """A part; ``taper`` is the radius at a frustum's top over that at its bottom."""
    if shape is None:
        shape = np.zeros(SHAPE_SIZE)
        shape[0] = taper
    return Part(kind, center, half_size, material, np.eye(3) if rotation is None else rotation, shape)


def block(
    center: tuple[float, float, float], half_size: tuple[float, float, float], material: NDArray[np.float64]
) -> Part:
    """An axis-aligned box."""
    return part(Kind.BOX, center, half_size, material)


def column(
    bottom: float,
    top: float,
    radius: float,
    material: NDArray[np.float64],
    taper: float = 1.0,
    x: float = 0.0,
    y: float = 0.0,
) -> Part:
    """An upright cylinder or cone from height ``bottom`` to ``top``."""
    return part(Kind.FRUSTUM, (x, y, (bottom + top) / 2), (radius, radius, (top - bottom) / 2), material, taper=taper)


def board(kind: Kind, shape: Array, x: float, y: float, material: NDArray[np.float64]) -> Part:
    """An upright flat cut-out, ``x`` and ``y`` half as wide and high as its outline's square."""
    return part(kind, (0, 0, y), (x, y, max(x, y)), material, _UPRIGHT, shape)


def pick(rng: Rng, *names: str) -> str:
    """One of the names."""
    return names[int(rng.integers(len(names)))]


def triple(vector: Array) -> tuple[float, float, float]:
    """A vector of three as a tuple."""
    return float(vector[0]), float(vector[1]), float(vector[2])
