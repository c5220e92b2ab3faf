"""Where rays enter and leave primitives, in the primitives' unit coordinates.

Vectors are tensors whose first dimension holds x, y, z; the rest broadcasts. A ray is origin + t x direction. All
functions return the parameters (near, far) of the part of the ray inside the shape: there is none where far < near.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffusion_perception_ros.scenes.scene import Kind
from diffusion_perception_ros.scenes.silhouettes import blob_margin, figure_margin

_INFINITY = float("inf")


def intersect(kind: int, origin: Tensor, direction: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
    """Intersect rays with one primitive of each frame.

    Args:
        kind: One of `Kind`.
        origin: (3, F, ...) unit coordinates.
        direction: (3, F, ...) unit coordinates, of any length.
        shape: (S, F, 1, ...) what else the kind needs.

    Returns:
        near and far. Flat cut-outs have the thickness of their margin (how deep inside the outline the ray passes), a
        room is all that lies beyond its walls.
    """
    if kind == Kind.ELLIPSOID:
        return _quadric((direction**2).sum(0), (origin * direction).sum(0), (origin**2).sum(0) - 1)
    if kind == Kind.FRUSTUM:
        return _frustum(origin, direction, shape[0])
    if kind == Kind.BOX:
        near, far = _slabs(origin, direction)
        return near.amax(0), far.amin(0)
    if kind == Kind.ROOM:
        wall = _slabs(origin, direction)[1].amin(0)
        return wall, torch.full_like(wall, _INFINITY)
    return _cut_out(kind, origin, direction, shape)


def _slabs(origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    inverse = 1 / direction
    middle = -origin * inverse
    return middle - inverse.abs(), middle + inverse.abs()


def _quadric(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The interval where a t^2 + 2 b t + c <= 0, for a > 0."""
    discriminant = b * b - a * c
    # A negative number under the root must end as far < near, so its size is kept.
    root = discriminant.clamp(min=0).sqrt() + discriminant.clamp(max=0)
    return (-b - root) / a, (-b + root) / a


def _frustum(origin: Tensor, direction: Tensor, taper: Tensor) -> tuple[Tensor, Tensor]:
    slope = (taper - 1) / 2
    radius = (taper + 1) / 2 + slope * origin[2]
    growth = slope * direction[2]
    a = direction[0] ** 2 + direction[1] ** 2 - growth**2
    b = origin[0] * direction[0] + origin[1] * direction[1] - radius * growth
    c = origin[0] ** 2 + origin[1] ** 2 - radius**2
    # Steeper than the mantle (a < 0) a ray leaves one nappe of the cone and enters the other; only the one below the
    # apex counts, and it is entered or left for good.
    steep = a < 0
    enters = growth > 0
    a = torch.where(a.abs() < 1e-12, 1e-12, a)
    near, far = _quadric(a.abs(), torch.where(steep, -b, b), torch.where(steep, -c, c))
    # For a < 0 the signs of the whole inequality are swapped, so [near, far] is what lies between the nappes.
    below, above = near, far
    near = torch.where(steep, torch.where(enters, above, -_INFINITY), near)
    far = torch.where(steep, torch.where(enters, _INFINITY, below), far)
    inverse = 1 / direction[2]
    middle = -origin[2] * inverse
    return torch.maximum(near, middle - inverse.abs()), torch.minimum(far, middle + inverse.abs())


def _cut_out(kind: int, origin: Tensor, direction: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
    near = -origin[2] / direction[2]
    x, y = origin[0] + near * direction[0], origin[1] + near * direction[1]
    margin = blob_margin(x, y, shape) if kind == Kind.BLOB else figure_margin(x, y, shape)
    return near, near + margin / (direction**2).sum(0).sqrt()
