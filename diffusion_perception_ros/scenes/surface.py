"""Casting rays: what is nearest, and everything that shading and truth need to know of the place that was met."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffusion_perception_ros.scenes import materials
from diffusion_perception_ros.scenes.instant import Box, Instant, Layout, hits, is_empty, transform, unit_rays
from diffusion_perception_ros.scenes.scene import Array, Kind, Scene
from diffusion_perception_ros.scenes.silhouettes import SHAPE_SIZE

_TRAITS = ("width", "depth", "height", "flat", "frustum", "ball", "cut_out", "room", "sky", "taper")
_SIDED = slice(3, 5)


@dataclass(frozen=True)
class Slots:
    """What the slots of a layout are, apart from where: constant over time.

    Attributes:
        layout: Their kinds and bodies.
        shape: (N, S, F, 1, 1) float64, for intersections.
        table: (columns, F (N + 1)) float32, traits and material of every slot of every frame.
        body: (F (N + 1),) int64.
    """

    layout: Layout
    shape: Tensor
    table: Tensor
    body: Tensor

    @classmethod
    def of(cls, layout: Layout, scenes: list[Scene], device: torch.device) -> Slots:
        """The slots of the frames' scenes."""
        parts = [scene.primitives for scene in scenes]
        shape = layout.fill([part.shape for part in parts], np.zeros(SHAPE_SIZE))
        half_size = layout.fill([part.half_size for part in parts], np.ones(3))
        material = layout.fill([part.material for part in parts], np.zeros(len(materials.COLUMNS)))
        sky = np.stack([_sky(scene) for scene in scenes])
        kind = np.broadcast_to(np.array([*layout.kinds, -1]), (len(scenes), len(layout.kinds) + 1))
        traits = np.stack(
            [
                *np.moveaxis(np.pad(half_size, ((0, 0), (0, 1), (0, 0)), constant_values=1), -1, 0),
                (kind == Kind.BOX) | (kind == Kind.ROOM),
                kind == Kind.FRUSTUM,
                kind == Kind.ELLIPSOID,
                (kind == Kind.BLOB) | (kind == Kind.FIGURE),
                kind == Kind.ROOM,
                kind == -1,
                np.pad(shape[..., 0], ((0, 0), (0, 1))),
            ]
        )
        rows = np.concatenate([traits, np.moveaxis(np.concatenate([material, sky[:, None]], 1), -1, 0)])
        return cls(
            layout,
            torch.from_numpy(np.ascontiguousarray(shape.transpose(1, 2, 0)))[..., None, None].to(device),
            torch.from_numpy(rows.reshape(len(rows), -1).astype(np.float32)).to(device),
            torch.from_numpy(layout.body.reshape(-1)).to(device),
        )


@dataclass(frozen=True)
class Surface:
    """What rays (x, y, 1) from the camera met, the sky included; tensors are (F, h, w) behind the dimensions named.

    Attributes:
        slot: int64 slot, the last one is the sky.
        flat_slot: The same, as an index into all slots of all frames.
        face: int64, equal for the same side of the same primitive.
        depth: float64 along z, 1 in the sky.
        unit: (3) float64, the place in the slot's unit coordinates.
        point: (3) float32, the place in the camera's frame.
        normal: (3) float32, unit length, towards the camera; 0 in the sky.
        local: (3) float32, the place in metres in the part's frame.
        facing: (3) float32, 1 for the axis of the part's frame that the normal is closest to.
        look: float32 traits and material by name.
        distance: float32, from the camera.
    """

    slot: Tensor
    flat_slot: Tensor
    face: Tensor
    depth: Tensor
    unit: Tensor
    point: Tensor
    normal: Tensor
    local: Tensor
    facing: Tensor
    look: dict[str, Tensor]
    distance: Tensor


def nearest(
    slots: Slots, instant: Instant, x: Tensor, y: Tensor, boxes: list[Box], amodal: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Depth and slot of the nearest primitive along rays (x, y, 1).

    Args:
        slots: The primitives.
        instant: Where they are.
        x: (F, 1 or h, w) float64.
        y: (F, h, 1 or w) float64.
        boxes: Which of the rays each slot can be met by.
        amodal: (F, bodies, h, w) bool to be set where a ray meets a body, hidden or not.

    Returns:
        (F, h, w) float64 depth, infinite in the sky, and int64 slot.
    """
    size = torch.broadcast_shapes(x.shape, y.shape)
    depth = torch.full(size, float("inf"), dtype=torch.float64, device=x.device)
    slot = torch.full(size, len(slots.layout.kinds), dtype=torch.int64, device=x.device)
    frames = torch.arange(len(x), device=x.device)
    body = slots.body.view(len(x), -1)
    for n in range(len(slots.layout.kinds)):
        if is_empty(boxes[n]):
            continue
        rows, columns = boxes[n]
        part_x = x[:, rows if x.shape[1] > 1 else slice(None), columns]
        part_y = y[:, rows, columns if y.shape[2] > 1 else slice(None)]
        hit = hits(slots.layout, instant, slots.shape, n, part_x, part_y)
        if amodal is not None:
            amodal[frames, body[:, n], rows, columns] |= hit.isfinite()
        region = depth[:, rows, columns]
        slot[:, rows, columns].masked_fill_(hit < region, n)
        torch.minimum(region, hit, out=region)
    return depth, slot


def surface(slots: Slots, instant: Instant, x: Tensor, y: Tensor, depth: Tensor, slot: Tensor) -> Surface:
    """The places that `nearest` found."""
    flat = flat_index(slots, slot)
    rows = select(slots.table, flat)
    names = (*_TRAITS, *materials.COLUMNS)
    look = dict(zip(names, rows, strict=True))
    depth = depth.masked_fill(slot == len(slots.layout.kinds), 1.0)
    to_unit = select(_table(instant.to_unit), flat).view(4, 3, *slot.shape)
    unit = unit_rays(to_unit, x, y) * depth + to_unit[3]
    normal, facing = _normal(look, unit, rows[:3])
    normal = (to_unit[:3].float() * normal).sum(1)
    x, y = x.float(), y.float()
    sign = torch.where(normal[0] * x + normal[1] * y + normal[2] > 0, -1.0, 1.0)
    normal = normal * (sign * (1 - look["sky"]) / (normal**2).sum(0).sqrt())
    z = depth.float()
    point = torch.stack([x * z, y * z, z])
    distance = (x * x + y * y + 1).sqrt() * z
    face = slot * 8 + _side(rows[_SIDED], unit)
    return Surface(slot, flat, face, depth, unit, point, normal, unit.float() * rows[:3], facing, look, distance)


def faces(slots: Slots, instant: Instant, x: Tensor, y: Tensor, depth: Tensor, slot: Tensor) -> Tensor:
    """(F, h, w) int64, equal where rays met the same side of the same primitive."""
    flat = flat_index(slots, slot)
    to_unit = select(_table(instant.to_unit), flat).view(4, 3, *slot.shape)
    unit = unit_rays(to_unit, x, y) * depth.masked_fill(slot == len(slots.layout.kinds), 1.0) + to_unit[3]
    return slot * 8 + _side(select(slots.table[_SIDED], flat), unit)


def reproject(surface: Surface, later: Instant) -> Tensor:
    """(3, F, h, w) float64: where in the camera's frame the surfaces are at a later time; directions in the sky."""
    return transform(select(_table(later.from_unit), surface.flat_slot).view(4, 3, *surface.slot.shape), surface.unit)


def flat_index(slots: Slots, slot: Tensor) -> Tensor:
    """Indices into all slots of all frames."""
    return slot + torch.arange(len(slot), device=slot.device)[:, None, None] * (len(slots.layout.kinds) + 1)


def select(table: Tensor, flat: Tensor) -> Tensor:
    """(columns, ...) values of a (columns, K) table at int64 indices."""
    return table.index_select(1, flat.flatten()).view(len(table), *flat.shape)


def _table(matrix: Tensor) -> Tensor:
    """(N, 4, 3, F, 1, 1) to (12, F N)."""
    return matrix[..., 0, 0].permute(1, 2, 3, 0).reshape(12, -1)


def _side(sided: Tensor, unit: Tensor) -> Tensor:
    """int64 number of the side of a box, or whether it is a frustum's top or bottom."""
    flat, frustum = sided
    magnitude = unit.abs()
    axis = (magnitude[1] > magnitude[0]).to(torch.int64)
    axis += (2 - axis) * (magnitude[2] > torch.maximum(magnitude[0], magnitude[1]))
    positive = unit.gather(0, axis[None])[0] > 0
    side: Tensor = (axis * 2 + positive + 1) * flat.long() + frustum.long() * (magnitude[2] > 1 - 1e-9)
    return side


def _normal(look: dict[str, Tensor], unit: Tensor, half_size: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of the surface in unit coordinates, and the axis of the part's frame it is closest to."""
    largest = unit.abs()
    largest = (largest == largest.amax(0)).float()
    position = unit.float()
    slope = (look["taper"] - 1) / 2
    cap = look["frustum"] * (unit[2].abs() > 1 - 1e-9)
    mantle = look["frustum"] - cap
    mantle_radius = (look["taper"] + 1) / 2 + slope * position[2]
    sides = look["ball"] + mantle
    flat = look["flat"] * position.sign()
    normal = torch.stack(
        [
            flat[0] * largest[0] + sides * position[0],
            flat[1] * largest[1] + sides * position[1],
            flat[2] * largest[2]
            + look["ball"] * position[2]
            - mantle * slope * mantle_radius
            + cap * position[2].sign()
            + look["cut_out"]
            + look["sky"],
        ]
    )
    metric = (normal / half_size).abs()
    return normal, (metric == metric.amax(0)).float()


def _sky(scene: Scene) -> Array:
    """The material of the sky: clouds on a blue ground, in the coordinates of directions."""
    material = np.zeros(len(materials.COLUMNS))
    values = {
        **dict(zip(("red", "green", "blue"), scene.light.zenith, strict=True)),
        **dict.fromkeys(("stain_red", "stain_green", "stain_blue"), 1.0),
        "frequency": 2.5,
        "gain": 0.6,
        "stain": scene.light.clouds,
        "emission": 1.0,
        "offset_x": scene.seed % 31,
        "turn_cosine": 1.0,
        **dict.fromkeys(("stretch_x", "stretch_y"), 1.0),
        "stretch_z": 3.0,
    }
    for name, value in values.items():
        material[materials.COLUMNS.index(name)] = value
    return material
