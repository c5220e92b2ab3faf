"""Scenes at one time each, as the camera sees them: the tensors that rays are cast through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_perception_ros.scenes.primitives import intersect
from diffusion_perception_ros.scenes.scene import Array, Kind, Scene

# Rows and columns.
Box = tuple[slice, slice]


def is_empty(box: Box) -> bool:
    """Whether there is nothing in a box."""
    return any(side.start >= side.stop for side in box)


def grown(box: Box, low: tuple[int, int], high: tuple[int, int]) -> Box:
    """A box that is not empty, with more rows and columns before and after; its ends may lie beyond the image's."""
    rows, columns = (slice(max(0, s.start - a), s.stop + b) for s, a, b in zip(box, low, high, strict=True))
    return rows, columns


@dataclass(frozen=True)
class Layout:
    """The primitives of several scenes side by side, the same kind in the same slot.

    What a scene lacks is filled up with primitives of size zero, far behind the camera; the last slot is the sky, whose
    unit coordinates are directions in the world. Thus every pixel belongs to a slot.

    Attributes:
        kinds: Kind of each slot but the sky.
        sources: (B, N) index of the slot's primitive in its scene, -1 for none.
        body: (B, N + 1) body of each slot.
        casts_shadow: (B, N) whether the slot's primitive casts a shadow.
    """

    kinds: tuple[int, ...]
    sources: NDArray[np.int64]
    body: NDArray[np.int64]
    casts_shadow: NDArray[np.bool_]

    @classmethod
    def of(cls, scenes: Sequence[Scene]) -> Layout:
        """The smallest layout that holds the scenes."""
        counts = np.array([np.bincount(scene.primitives.kind, minlength=len(Kind)) for scene in scenes])
        kinds = np.repeat(np.arange(len(Kind)), counts.max(0))
        sources = np.full((len(scenes), len(kinds)), -1)
        body = np.zeros((len(scenes), len(kinds) + 1), np.int64)
        casts = np.zeros((len(scenes), len(kinds)), bool)
        for scene, row, source, bodies, caster in zip(scenes, counts, sources, body, casts, strict=True):
            slots = np.concatenate([np.flatnonzero(kinds == kind)[:count] for kind, count in enumerate(row)])
            source[slots] = np.arange(len(slots))
            bodies[slots] = scene.primitives.body
            caster[slots] = scene.primitives.casts_shadow
        return cls(tuple(kinds.tolist()), sources, body, casts)

    def fill(self, rows: Sequence[Array], empty: Array) -> Array:
        """(B, N, ...) values of the slots from (n, ...) values of each scene's primitives."""
        return np.stack(
            [np.concatenate([values, empty[None]])[source] for values, source in zip(rows, self.sources, strict=True)]
        )


@dataclass(frozen=True)
class Instant:
    """F frames, each a scene at a time.

    Attributes:
        to_unit: (N + 1, 4, 3, F, 1, 1) float64, camera to unit coordinates: three columns and the offset.
        from_unit: Likewise, unit coordinates to camera.
        matrices: (N, F, 4, 4) float64 on the CPU, unit coordinates to camera, without the sky.
        camera_to_world: (F, 4, 4) float64 on the CPU.
        tangent: (F,) float64 on the CPU, half the image's width over the focal length.
    """

    to_unit: Tensor
    from_unit: Tensor
    matrices: Array
    camera_to_world: Array
    tangent: Array

    @classmethod
    def of(cls, layout: Layout, scenes: Sequence[Scene], times: Sequence[int], device: torch.device) -> Instant:
        """The scenes at their times; all linear algebra is done in float64 on the CPU, equal for every device."""
        cameras, matrices = [], []
        for scene, time in zip(scenes, times, strict=True):
            camera = scene.camera.poses([time])[0, 0]
            bodies = scene.motion.poses([time])[0]
            parts = np.zeros((len(scene.primitives.kind), 4, 4))
            parts[:, :3, :3] = scene.primitives.rotation * scene.primitives.half_size[:, None]
            parts[:, :3, 3] = scene.primitives.center
            parts[:, 3, 3] = 1
            cameras.append(camera)
            matrices.append(np.linalg.inv(camera) @ bodies[scene.primitives.body] @ parts)
        absent = np.diag([1e-3, 1e-3, 1e-3, 1.0])
        absent[2, 3] = -1e3
        from_unit = layout.fill(matrices, absent)
        sky = np.stack(cameras)
        sky[:, :3, 3] = 0
        from_unit = np.concatenate([from_unit, np.linalg.inv(sky)[:, None]], 1)
        return cls(
            _columns(np.asarray(np.linalg.inv(from_unit), np.float64), device),
            _columns(from_unit, device),
            from_unit[:, :-1].swapaxes(0, 1),
            np.stack(cameras),
            np.array([scene.tangent for scene in scenes]),
        )

    def boxes(self, layout: Layout, height: int, width: int) -> list[Box]:
        """The rows and columns of the image that a slot can be seen in, for each slot, over all frames."""
        corners = self._corners(1.0)
        boxes = self._image_boxes(corners, height, width)
        whole = slice(0, height), slice(0, width)
        return [whole if kind == Kind.ROOM else box for kind, box in zip(layout.kinds, boxes, strict=True)]

    def dimmed_boxes(self, sources: Array, reach: float, height: int, width: int) -> list[Box]:
        """The rows and columns that a slot can take light from, for each slot, over all frames.

        Args:
            sources: (F, 4) homogeneous source of light in the world.
            reach: How far, in unit coordinates, the slot occludes the light from all around.
            height: Of the image.
            width: Of the image.
        """
        around = self._corners(reach)
        world = self._corners(1.0) @ self.camera_to_world.swapaxes(1, 2)
        # Shadows end at height 0 at the latest, below which nothing can be seen.
        away = world[..., :3] * sources[:, None, 3:] - sources[:, None, :3]
        steps = world[..., 2:3].clip(0) / np.maximum(-away[..., 2:3], 1e-3)
        shadow = np.ones_like(world)
        shadow[..., :3] = world[..., :3] + away * steps
        shadow = shadow @ np.linalg.inv(self.camera_to_world).swapaxes(1, 2)
        return self._image_boxes(np.concatenate([around, shadow], 2), height, width)

    def _corners(self, reach: float) -> Array:
        """(N, F, 8, 4) corners of the slots' cubes in the camera's frame, ``reach`` times as large."""
        cube = np.stack(np.meshgrid(*[[-reach, reach]] * 3, [1.0]), -1).reshape(8, 4)
        corners = np.ones((*self.matrices.shape[:2], 8, 4))
        corners[..., :3] = (cube @ self.matrices.swapaxes(2, 3))[..., :3]
        return corners

    def _image_boxes(self, points: Array, height: int, width: int) -> list[Box]:
        """Boxes around the images of (N, F, P, 4) points."""
        focal = width / 2 / self.tangent[:, None]
        depth = np.maximum(points[..., 2], 1e-9)
        ahead = points[..., 2] > 1e-3
        some = ahead.any(-1)
        # A part that reaches behind the camera can be anywhere in the image.
        crossing = some & ~ahead.all(-1)
        sides = []
        for axis, size in ((1, height), (0, width)):
            place = points[..., axis] / depth * focal + (size - 1) / 2
            low = np.where(crossing, 0, np.floor(place.min(-1)).clip(0, size))
            high = np.where(crossing, size, np.ceil(place.max(-1) + 1).clip(0, size))
            low, high = np.where(some, low, size).min(1), np.where(some, high, 0).max(1)
            sides.append(
                [slice(a, max(a, b)) for a, b in zip(low.astype(int).tolist(), high.astype(int).tolist(), strict=True)]
            )
        return list(zip(*sides, strict=True))


def unit_rays(to_unit: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """(3, F, ...) unit directions of the camera rays through (x, y, 1), for one slot's (4, 3, F, 1, 1) columns."""
    return to_unit[0] * x + to_unit[2] + to_unit[1] * y


def transform(matrix: Tensor, point: Tensor) -> Tensor:
    """(3, F, ...) points through (4, 3, F, ...) columns and offset."""
    return matrix[0] * point[0] + matrix[1] * point[1] + matrix[2] * point[2] + matrix[3]


def hits(layout: Layout, instant: Instant, shape: Tensor, slot: int, x: Tensor, y: Tensor) -> Tensor:
    """Depth along z at which rays (x, y, 1) from the camera meet a slot's primitive, infinite where they do not.

    Args:
        layout: Which kinds are in the slots.
        instant: Where they are.
        shape: (N, S, F, 1, 1) float64.
        slot: Which one.
        x: (F or 1, ...) horizontal component of the rays.
        y: Vertical one.
    """
    to_unit = instant.to_unit[slot]
    near, far = intersect(layout.kinds[slot], to_unit[3], unit_rays(to_unit, x, y), shape[slot])
    return near.masked_fill_((far <= near) | (near <= 0), float("inf"))


def _columns(matrix: Array, device: torch.device) -> Tensor:
    """(F, N, 4, 4) to (N, 4, 3, F, 1, 1)."""
    columns = np.ascontiguousarray(matrix[:, :, :3].transpose(1, 3, 2, 0))
    return torch.from_numpy(columns)[..., None, None].to(device)
