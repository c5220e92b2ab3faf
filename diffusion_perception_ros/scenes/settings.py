"""Places that scenes happen in: rooms, table tops, streets and open ground, each with a camera and a light."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from diffusion_perception_ros.scenes import catalogue, outdoors
from diffusion_perception_ros.scenes.catalogue import Thing
from diffusion_perception_ros.scenes.materials import draw_material
from diffusion_perception_ros.scenes.parts import Part, Rng, block, part, triple
from diffusion_perception_ros.scenes.rotations import about, looking
from diffusion_perception_ros.scenes.scene import Array, Kind, Light


@dataclass(frozen=True)
class Setting:
    """Where things are put, in the world's metres; the camera stands above the origin and looks along y.

    Attributes:
        scenery: Static parts.
        things: What is found here.
        ground: Height that things stand on.
        camera: (3,) position.
        camera_rotation: (3, 3) optical to world.
        tangent: Half the image's width over the focal length.
        depth: Nearest and farthest place for things.
        is_free: Whether something with a horizontal radius can be at a place (x, y).
        light: The light.
    """

    scenery: list[Part]
    things: tuple[Thing, ...]
    ground: float
    camera: Array
    camera_rotation: Array
    tangent: float
    depth: tuple[float, float]
    is_free: Callable[[Array, float], bool]
    light: Light


def draw_setting(rng: Rng) -> Setting:
    """One of the settings."""
    return (room, room, table_top, street, field)[int(rng.integers(5))](rng)


def room(rng: Rng) -> Setting:
    """A furnished room, a corridor or a hall, seen from inside."""
    half = np.array([rng.uniform(1.3, 4.0), rng.uniform(2.2, 5.5), rng.uniform(1.15, 1.7)])
    eye = np.array([rng.uniform(-0.6, 0.6) * half[0], rng.uniform(-0.92, -0.4) * half[1]])
    height = rng.uniform(0.7, min(1.8, 2 * half[2] - 0.4))
    shell = _room_shell(rng, half, eye, rng.normal(0, 0.45))
    return Setting(
        shell.parts,
        catalogue.INDOORS,
        0.0,
        np.array([0, 0, height]),
        looking(0, rng.uniform(-0.55, 0.05), rng.normal(0, 0.03)),
        rng.uniform(0.5, 0.95),
        (0.8, float(2 * half[1])),
        shell.is_free,
        shell.light,
    )


def table_top(rng: Rng) -> Setting:
    """Small things on a table, seen from above at arm's length."""
    half = np.array([rng.uniform(1.5, 3.0), rng.uniform(1.6, 3.0), rng.uniform(1.15, 1.5)])
    top = rng.uniform(0.7, 0.9)
    reach, width, depth = rng.uniform(0.3, 0.5), rng.uniform(0.4, 0.9), rng.uniform(0.35, 0.6)
    turn = about(2, rng.normal(0, 0.2))
    center = np.array([rng.normal(0, 0.1), reach + depth])
    shell = _room_shell(rng, half, np.array([0, rng.uniform(-0.5, 0.1) * half[1]]), rng.normal(0, 0.5))
    surface = draw_material(rng, str(rng.choice(["wood", "planks", "plastic", "stone", "fabric", "tiles"])))
    parts = [part(Kind.BOX, (*center, top - 0.03), (width, depth, 0.03), surface, turn)]
    parts.append(part(Kind.BOX, (*center, top / 2 - 0.04), (width * 0.8, depth * 0.8, top / 2 - 0.04), surface, turn))

    def is_free(place: Array, radius: float) -> bool:
        local = np.abs(turn[:2, :2].T @ (place - center))
        return bool(local[0] < width - 0.7 * radius and local[1] < depth - 0.7 * radius)

    height = rng.uniform(0.18, 0.5)
    return Setting(
        [*shell.parts, *parts],
        catalogue.ON_TABLE,
        top,
        np.array([0, 0, top + height]),
        looking(0, -np.arctan2(height, reach + depth * rng.uniform(0.4, 1.2)), rng.normal(0, 0.03)),
        rng.uniform(0.42, 0.75),
        (0.3, reach + 2 * depth),
        is_free,
        replace(shell.light, haze=shell.light.haze * np.array([1, 1, 1, 0.5])),
    )


def street(rng: Rng) -> Setting:
    """A road or a square between buildings."""
    ground = draw_material(rng, str(rng.choice(["asphalt", "concrete", "tiles", "brickwork", "asphalt"])), 1.5)
    parts = [_background(block((0, 0, -0.5), (90, 90, 0.5), ground))]
    turn = about(2, rng.normal(0, 0.25))
    sides = -rng.uniform(3.0, 9.0), rng.uniform(3.0, 9.0)
    for side, sign in zip(sides, (-1, 1), strict=True):
        along = -6.0
        while along < 45:
            length, height, deep = rng.uniform(5, 14), rng.uniform(3, 12), rng.uniform(3, 5)
            place = turn @ np.array([side + sign * (deep + rng.uniform(0, 0.8)), along + length / 2, height / 2])
            material = draw_material(rng, str(rng.choice(["facade", "brickwork", "plaster", "concrete"])), 1.5)
            parts.append(part(Kind.BOX, triple(place), (deep, length / 2 - 0.02, height / 2), material, turn))
            along += length + (rng.uniform(1, 4) if rng.random() < 0.3 else 0)
    if rng.random() < 0.7:
        place = turn @ np.array([0, rng.uniform(20, 50), 4])
        parts.append(part(Kind.BOX, triple(place), (25, 3, rng.uniform(3, 9)), draw_material(rng, "facade", 1.5), turn))

    def is_free(place: Array, radius: float) -> bool:
        across = (turn[:2, :2].T @ place)[0]
        return bool(sides[0] + radius < across < sides[1] - radius)

    return Setting(
        parts,
        catalogue.OUTDOORS,
        0.0,
        np.array([0, 0, rng.uniform(0.8, 2.2)]),
        looking(0, rng.uniform(-0.25, 0.05), rng.normal(0, 0.03)),
        rng.uniform(0.45, 0.95),
        (1.8, 22.0),
        is_free,
        _daylight(rng, (100, 800)),
    )


def field(rng: Rng) -> Setting:
    """A meadow, a beach, a yard: open ground with something in the distance."""
    ground = draw_material(rng, str(rng.choice(["grass", "earth", "stone", "grass", "concrete", "asphalt"])), 1.5)
    parts = [_background(block((0, 0, -0.5), (90, 90, 0.5), ground))]
    for _ in range(int(rng.integers(0, 4))):  # hills
        x, y, wide = rng.uniform(-60, 60), rng.uniform(45, 85), rng.uniform(15, 50)
        hill = draw_material(rng, str(rng.choice(["foliage", "stone", "earth", "grass"])), 20)
        parts.append(part(Kind.ELLIPSOID, (x, y, 0), (wide, wide * 0.4, rng.uniform(3, 14)), hill))
    parts = [_background(piece) for piece in parts]
    if rng.random() < 0.55:  # a wall, a hedge or a fence
        family, high = str(rng.choice(["brickwork", "foliage", "concrete", "planks", "foliage"])), rng.uniform(0.8, 3.5)
        place = (rng.normal(0, 4), rng.uniform(9, 35), high / 2)
        material = draw_material(rng, family, 2)
        parts.append(part(Kind.BOX, place, (rng.uniform(6, 40), 0.3, high / 2), material, about(2, rng.normal(0, 0.3))))
    for _ in range(int(rng.integers(1, 5))):
        thing = (outdoors.tree, outdoors.bush, outdoors.tree, outdoors.rock)[int(rng.integers(4))]
        distance = rng.uniform(14, 45)
        offset = np.array([rng.uniform(-1, 1) * distance, distance, 0.0])
        parts += [moved(piece, np.eye(3), offset) for piece in thing(rng)]
    return Setting(
        parts,
        catalogue.OUTDOORS,
        0.0,
        np.array([0, 0, rng.uniform(0.6, 2.2)]),
        looking(0, rng.uniform(-0.3, 0.02), rng.normal(0, 0.03)),
        rng.uniform(0.42, 0.9),
        (1.5, 18.0),
        lambda place, radius: True,
        _daylight(rng, (40, 600)),
    )


def moved(piece: Part, rotation: Array, offset: Array) -> Part:
    """The part after a rigid motion."""
    return replace(piece, center=triple(rotation @ np.array(piece.center) + offset), rotation=rotation @ piece.rotation)


def _background(piece: Part) -> Part:
    """The part without its shadow, where there is nothing behind it to darken."""
    return replace(piece, casts_shadow=False)


@dataclass(frozen=True)
class _Shell:
    parts: list[Part]
    is_free: Callable[[Array, float], bool]
    light: Light


def _room_shell(rng: Rng, half: Array, eye: Array, yaw: float) -> _Shell:
    """Floor, walls, ceiling, what hangs on the walls, and the room's light.

    Args:
        rng: Source of randomness.
        half: (3,) half of the room's size.
        eye: (2,) where the camera is in the room's axes.
        yaw: How the room is turned.
    """
    turn = about(2, yaw)
    offset = -(turn @ np.array([*eye, 0]))
    x, y, z = half
    thin = 0.05
    wall = draw_material(rng, str(rng.choice(["plaster", "wallpaper", "plaster", "brickwork", "concrete", "planks"])))
    accent = (
        draw_material(rng, str(rng.choice(["plaster", "wallpaper", "brickwork", "planks"])))
        if rng.random() < 0.5
        else wall
    )
    floor = draw_material(rng, str(rng.choice(["planks", "tiles", "carpet", "concrete", "wood"])))
    parts = [
        # The shell is the ceiling; floor and walls are slabs before it.
        part(Kind.ROOM, (0, 0, z - thin), (x, y, z + thin), draw_material(rng, "plaster")),
        block((0, 0, -thin), (x, y, thin), floor),
        *(block((sign * x, 0, z), (thin, y, z), accent if sign > 0 else wall) for sign in (-1, 1)),
        *(block((0, sign * y, z), (x, thin, z), wall) for sign in (-1, 1)),
    ]
    for _ in range(int(rng.integers(1, 5))):
        side, sign = int(rng.integers(2)), (-1, 1, 1)[int(rng.integers(3))]
        wide, high, thick = rng.uniform(0.2, 0.7), rng.uniform(0.2, 0.6), rng.uniform(0.01, 0.04)
        middle = rng.uniform(1.0, 2 * z - 0.7)
        if rng.random() < 0.3:  # a door or a curtain, down to the floor
            wide, high, middle = 0.45, 1.0, 1.0
        along = rng.uniform(-0.8, 0.8) * (half[1 - side] - wide)
        face = draw_material(rng, str(rng.choice(["print", "wood", "paint", "glow", "fabric", "metal"])), 2)
        place, size = np.array([0.0, 0.0, middle]), np.array([thick, thick, high])
        place[side], place[1 - side] = sign * (half[side] - thin - thick / 2), along
        size[1 - side] = wide
        parts.append(block(triple(place), triple(size), face))
    if rng.random() < 0.4:
        rug = draw_material(rng, "fabric", 3)
        parts.append(
            block(
                (rng.normal(0, 0.3), rng.normal(0, 0.6), 0.005),
                (rng.uniform(0.5, 1.2), rng.uniform(0.6, 1.5), 0.006),
                rug,
            )
        )

    def is_free(place: Array, radius: float) -> bool:
        local = np.abs((turn.T @ (np.array([*place, 0.0]) - offset))[:2])
        return bool((local + radius + 0.07 < half[:2]).all())

    ceiling = turn @ np.array([rng.uniform(-0.7, 0.7) * x, rng.uniform(-0.6, 0.7) * y, 2 * z - 0.15]) + offset
    return _Shell([_background(moved(piece, turn, offset)) for piece in parts], is_free, _lamplight(rng, ceiling))


def _lamplight(rng: Rng, lamp: Array) -> Light:
    warmth = rng.normal(0, 0.12)
    tint = np.array([1 + warmth, 1, 1 - warmth])
    if rng.random() < 0.3:  # through a large window beside the camera
        azimuth, elevation = rng.uniform(-np.pi, np.pi), rng.uniform(0.35, 1.1)
        source = np.array([*_direction(azimuth, elevation), 0.0])
    else:
        source = np.array([*lamp, 1.0])
    direct, around = rng.uniform(0.5, 1.8), rng.uniform(0.15, 0.5)
    below = around * rng.uniform(0.4, 0.8) * np.array([1.05, 1.0, 0.92])
    haze = np.array([0.5, 0.5, 0.5, 1 / rng.uniform(60, 400)])
    return Light(source, direct * tint, around * np.ones(3), below, rng.uniform(0.02, 0.15), haze, np.full(3, 0.5), 0.0)


def _daylight(rng: Rng, visibility: tuple[float, float]) -> Light:
    overcast = rng.random() < 0.35
    source = np.array([*_direction(rng.uniform(-np.pi, np.pi), rng.uniform(0.3, 1.35)), 0.0])
    sun = rng.uniform(0.1, 0.35) if overcast else rng.uniform(0.7, 1.4)
    warmth = rng.uniform(-0.03, 0.2)
    color = sun * np.array([1 + warmth, 1, 1 - warmth])
    around = rng.uniform(0.55, 0.9) if overcast else rng.uniform(0.25, 0.5)
    blue = 0.03 if overcast else 0.15
    above = around * np.array([1 - blue, 1, 1 + blue])
    below = around * rng.uniform(0.3, 0.6) * np.array([1.05, 1.0, 0.85])
    gray = rng.uniform(0.6, 1.0)
    haze = gray * np.array([rng.uniform(0.8, 1.0), 0.95, rng.uniform(0.95, 1.1)])
    zenith = gray * (np.array([0.75, 0.8, 0.85]) if overcast else np.array([rng.uniform(0.15, 0.4), 0.45, 0.85]))
    extinction = 1 / np.exp(rng.uniform(*np.log(visibility)))
    penumbra = rng.uniform(0.25, 0.5) if overcast else rng.uniform(0.01, 0.06)
    return Light(source, color, above, below, penumbra, np.array([*haze, extinction]), zenith, rng.random())


def _direction(azimuth: float, elevation: float) -> Array:
    flat = np.cos(elevation)
    return np.array([flat * np.sin(azimuth), flat * np.cos(azimuth), np.sin(elevation)])
