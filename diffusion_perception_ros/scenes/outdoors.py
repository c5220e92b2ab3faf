"""Things of familiar size found outdoors, animals and flat cut-outs; lengths in metres.

Everything stands on z = 0 around the origin.
"""

from __future__ import annotations

import numpy as np

from diffusion_perception_ros.scenes.materials import draw_material
from diffusion_perception_ros.scenes.parts import Part, Rng, block, board, column, part, pick, triple
from diffusion_perception_ros.scenes.rotations import about
from diffusion_perception_ros.scenes.scene import Kind
from diffusion_perception_ros.scenes.silhouettes import draw_animal, draw_blob, draw_person, draw_strokes


def standee(rng: Rng) -> list[Part]:
    """The flat cut-out of a person, printed board as in a shop."""
    height = rng.uniform(1.4, 1.9)
    return [
        board(Kind.FIGURE, draw_person(rng), height / 2, height / 2, draw_material(rng, pick(rng, "print", "fabric")))
    ]


def dog(rng: Rng) -> list[Part]:
    """A four-legged animal of flesh and blood, facing x."""
    s = rng.uniform(0.5, 1.1)
    fur = draw_material(rng, "fur")
    parts = [
        part(Kind.ELLIPSOID, (0, 0, 0.45 * s), (0.36 * s, 0.13 * s, 0.15 * s), fur),
        part(Kind.ELLIPSOID, (0.3 * s, 0, 0.55 * s), (0.09 * s, 0.08 * s, 0.17 * s), fur),
        part(Kind.ELLIPSOID, (0.42 * s, 0, 0.66 * s), (0.16 * s, 0.085 * s, 0.1 * s), fur),
    ]
    legs = [column(0, 0.42 * s, 0.04 * s, fur, 1.4, x * s, y * s) for x in (-0.24, 0.24) for y in (-0.08, 0.08)]
    return [*parts, *legs]


def flat_animal(rng: Rng) -> list[Part]:
    """The flat cut-out of a four-legged animal."""
    height = rng.uniform(0.3, 0.7)
    return [
        board(
            Kind.FIGURE,
            draw_animal(rng),
            height * rng.uniform(0.9, 1.5),
            height,
            draw_material(rng, pick(rng, "fur", "print", "wood")),
        )
    ]


def leaf(rng: Rng) -> list[Part]:
    """A flat leaf, star or blob, hand-sized to a metre."""
    size = np.exp(rng.uniform(np.log(0.08), np.log(0.5)))
    return [
        board(
            Kind.BLOB,
            draw_blob(rng),
            size,
            size * rng.uniform(0.6, 1.3),
            draw_material(rng, pick(rng, "foliage", "print", "fabric", "paint")),
        )
    ]


def strokes(rng: Rng) -> list[Part]:
    """A flat letter, branch or tool."""
    size = np.exp(rng.uniform(np.log(0.1), np.log(0.5)))
    return [
        board(
            Kind.FIGURE,
            draw_strokes(rng),
            size,
            size,
            draw_material(rng, pick(rng, "wood", "paint", "metal", "plastic")),
        )
    ]


def tree(rng: Rng) -> list[Part]:
    """A trunk with a round crown, or a fir."""
    height = rng.uniform(2.5, 7.0)
    bark, green = draw_material(rng, "bark", 2), draw_material(rng, "foliage", 4)
    trunk = height * rng.uniform(0.02, 0.04)
    if rng.random() < 0.4:
        parts = [column(0, height * 0.3, trunk, bark)]
        for k in range(3):
            bottom = height * (0.15 + 0.25 * k)
            parts.append(column(bottom, bottom + height * 0.4, height * (0.22 - 0.05 * k), green, 0.05))
        return parts
    crown = height * rng.uniform(0.2, 0.32)
    parts = [column(0, height - crown, trunk, bark, 0.6)]
    for _ in range(int(rng.integers(1, 4))):
        x, y, z = rng.normal(0, 0.35 * crown, 3)
        size = crown * rng.uniform(0.6, 1.0)
        parts.append(
            part(Kind.ELLIPSOID, (x, y, height - crown + z * 0.5), (size, size, size * rng.uniform(0.7, 1.1)), green)
        )
    return parts


def bush(rng: Rng) -> list[Part]:
    """One to three round masses of leaves."""
    green = draw_material(rng, "foliage", 2)
    parts = []
    for _ in range(int(rng.integers(1, 4))):
        size = rng.uniform(0.3, 0.8)
        x, y = rng.normal(0, 0.4, 2)
        parts.append(part(Kind.ELLIPSOID, (x, y, size * 0.6), (size, size, size * 0.8), green))
    return parts


def rock(rng: Rng) -> list[Part]:
    """A boulder, half in the ground."""
    size = rng.uniform(0.15, 0.8)
    axes = size * rng.uniform(0.6, 1.3, 3)
    turn = about(0, rng.normal(0, 0.3)) @ about(1, rng.normal(0, 0.3))
    return [part(Kind.ELLIPSOID, (0, 0, size * 0.35), triple(axes), draw_material(rng, "stone", 2), turn)]


def car(rng: Rng) -> list[Part]:
    """Body, cabin and four wheels, facing x."""
    length, width = rng.uniform(1.8, 2.3), rng.uniform(0.8, 0.92)
    paint, rubber = draw_material(rng, "paint", 3), draw_material(rng, "rubber")
    glass = draw_material(rng, "metal", 3)
    cabin = rng.uniform(0.9, 1.3)
    parts = [
        block((0, 0, 0.58), (length, width, 0.3), paint),
        part(Kind.FRUSTUM, (-0.15, 0, 1.12), (cabin, width * 0.92, 0.27), glass, taper=0.75),
        block((-0.15, 0, 1.4), (cabin * 0.55, width * 0.6, 0.03), paint),
    ]
    axle = about(0, np.pi / 2)
    wheel = (0.32, 0.32, width * 1.02)
    wheels = [part(Kind.FRUSTUM, (x * length, 0, 0.32), wheel, rubber, axle) for x in (-0.62, 0.62)]
    return [*parts, *wheels]


def cone(rng: Rng) -> list[Part]:
    """A traffic cone."""
    height = rng.uniform(0.4, 0.75)
    plastic = draw_material(rng, "plastic", 2)
    return [
        block((0, 0, 0.02), (height * 0.27, height * 0.27, 0.02), draw_material(rng, "rubber")),
        column(0.04, height, height * 0.2, plastic, 0.15),
    ]


def barrel(rng: Rng) -> list[Part]:
    """A barrel or a dustbin."""
    radius, height = rng.uniform(0.22, 0.32), rng.uniform(0.6, 1.1)
    material = draw_material(rng, pick(rng, "metal", "paint", "wood"))
    return [
        column(0, height, radius, material, rng.uniform(0.9, 1.2)),
        column(height * 0.6, height * 0.66, radius * 1.12, draw_material(rng, "metal")),
    ]


def sign(rng: Rng) -> list[Part]:
    """A board on a pole."""
    height, size = rng.uniform(1.6, 2.4), rng.uniform(0.25, 0.45)
    face = draw_material(rng, pick(rng, "print", "paint"), 3)
    parts = [column(0, height, 0.03, draw_material(rng, "metal"))]
    if rng.random() < 0.5:
        return [*parts, block((0, -0.05, height), (size * 1.3, 0.015, size * 0.8), face)]
    disc = about(0, np.pi / 2)
    return [*parts, part(Kind.FRUSTUM, (0, -0.05, height), (size, size, 0.015), face, disc)]


def bench(rng: Rng) -> list[Part]:
    """A seat, a back and two supports."""
    half = rng.uniform(0.6, 0.95)
    wood, stone = (
        draw_material(rng, pick(rng, "wood", "planks", "paint")),
        draw_material(rng, pick(rng, "concrete", "metal")),
    )
    return [
        block((0, 0, 0.45), (half, 0.22, 0.025), wood),
        block((0, 0.22, 0.72), (half, 0.02, 0.13), wood),
        block((-half * 0.8, 0, 0.21), (0.05, 0.2, 0.212), stone),
        block((half * 0.8, 0, 0.21), (0.05, 0.2, 0.212), stone),
    ]
