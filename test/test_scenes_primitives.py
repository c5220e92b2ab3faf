"""Ray intersections held against dense sampling of the shapes' definitions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_perception_ros.scenes.primitives import intersect
from diffusion_perception_ros.scenes.scene import Kind
from diffusion_perception_ros.scenes.silhouettes import SHAPE_SIZE, draw_animal, draw_blob, draw_person, draw_strokes


def contains(kind: Kind, point: Tensor, taper: float) -> Tensor:
    x, y, z = point
    if kind == Kind.BOX:
        return point.abs().amax(0) <= 1
    if kind == Kind.ELLIPSOID:
        return (point**2).sum(0) <= 1
    radius = ((1 + taper) + (taper - 1) * z) / 2
    inside: Tensor = (z.abs() <= 1) & ((x * x + y * y).sqrt() <= radius)
    return inside


@pytest.mark.parametrize(
    ("kind", "taper"),
    [
        (Kind.BOX, 1),
        (Kind.ELLIPSOID, 1),
        (Kind.FRUSTUM, 1),
        (Kind.FRUSTUM, 0),
        (Kind.FRUSTUM, 0.4),
        (Kind.FRUSTUM, 1.6),
    ],
)
def test_solids_are_entered_and_left_where_sampling_says(kind: Kind, taper: float) -> None:
    generator = torch.Generator().manual_seed(kind * 10 + int(10 * taper))
    origin = torch.randn(3, 1, 400, generator=generator, dtype=torch.float64) * 3
    target = torch.rand(3, 1, 400, generator=generator, dtype=torch.float64) * 2.4 - 1.2
    direction = target - origin
    shape = torch.full((SHAPE_SIZE, 1, 1), float(taper), dtype=torch.float64)
    near, far = intersect(kind, origin, direction, shape)
    steps = torch.linspace(-1, 3, 4001, dtype=torch.float64)
    inside = torch.stack([contains(kind, origin + direction * step, taper) for step in steps])
    predicted = (steps[:, None, None] >= near) & (steps[:, None, None] <= far)
    # Only steps right at the surface may differ.
    differ = (inside != predicted).sum(0)
    assert int(differ.max()) <= 1
    assert 50 < int(inside.any(0).sum()) <= 400


def test_a_room_is_seen_from_inside() -> None:
    origin = torch.zeros(3, 1, 1, dtype=torch.float64)
    direction = torch.tensor([0.5, 0.1, 0.2], dtype=torch.float64)[:, None, None]
    near, far = intersect(Kind.ROOM, origin, direction, torch.zeros(SHAPE_SIZE, 1, 1))
    assert float(near) == pytest.approx(2.0)
    assert float(far) == np.inf


@pytest.mark.parametrize("draw", [draw_blob, draw_person, draw_animal, draw_strokes])
def test_cut_outs_are_connected_and_inside_their_square(
    draw: Callable[[np.random.Generator], NDArray[np.float64]],
) -> None:
    import cv2

    kind = Kind.BLOB if draw is draw_blob else Kind.FIGURE
    axis = torch.linspace(-1.2, 1.2, 241, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    origin = torch.stack([x, y, torch.full_like(x, -2.0)])[:, None]
    direction = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)[:, None, None, None]
    for seed in range(12):
        shape = torch.from_numpy(draw(np.random.default_rng(seed)))[:, None, None, None]
        near, far = intersect(kind, origin, direction, shape)
        inside = (far > near)[0]
        assert bool((near == 2).all())
        assert 0.03 < float(inside.double().mean()) < 0.8
        assert not inside[(x.abs() > 1.01) | (y.abs() > 1.01)].any()
        assert cv2.connectedComponents(inside.numpy().astype(np.uint8))[0] == 2
