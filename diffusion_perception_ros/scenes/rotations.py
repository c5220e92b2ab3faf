"""Rotation matrices in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def from_rotation_vectors(vectors: Array) -> Array:
    """(..., 3) axis times angle in radians to (..., 3, 3), by Rodrigues' formula."""
    angle = np.linalg.norm(vectors, axis=-1, keepdims=True)
    x, y, z = np.moveaxis(vectors / np.maximum(angle, 1e-12), -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    angle = angle[..., None]
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross))


def about(axis: int, angle: float) -> Array:
    """The rotation by ``angle`` radians about coordinate axis 0, 1 or 2."""
    rotation = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    rotation[i, i] = rotation[j, j] = np.cos(angle)
    rotation[j, i] = np.sin(angle)
    rotation[i, j] = -rotation[j, i]
    return rotation


def looking(yaw: float, pitch: float, roll: float) -> Array:
    """Optical camera to z-up world; yaw 0 looks along y with x to the right, positive pitch looks up."""
    level = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
    return np.asarray(about(2, yaw) @ level @ about(0, pitch) @ about(2, roll))
