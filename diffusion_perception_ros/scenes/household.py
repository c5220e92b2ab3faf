"""Things of familiar size found in houses; lengths in metres.

Everything stands on z = 0 around the origin.
"""

from __future__ import annotations

import numpy as np

from diffusion_perception_ros.scenes.materials import draw_material
from diffusion_perception_ros.scenes.parts import Part, Rng, block, column, part, pick, triple
from diffusion_perception_ros.scenes.rotations import about
from diffusion_perception_ros.scenes.scene import Kind
from diffusion_perception_ros.scenes.silhouettes import draw_blob


def ball(rng: Rng) -> list[Part]:
    """A toy ball to a gymnastics ball."""
    radius = float(rng.choice([0.06, 0.11, 0.12, 0.2, 0.3])) * rng.uniform(0.9, 1.1)
    return [
        part(Kind.ELLIPSOID, (0, 0, radius), (radius,) * 3, draw_material(rng, pick(rng, "plastic", "rubber", "paint")))
    ]


def carton(rng: Rng) -> list[Part]:
    """A parcel or a crate, sometimes two on top of one another."""
    x, y, z = rng.uniform(0.1, 0.35, 3)
    family = pick(rng, "cardboard", "wood", "print", "plastic")
    parts = [block((0, 0, z), (x, y, z), draw_material(rng, family))]
    if rng.random() < 0.4:
        scale = rng.uniform(0.5, 0.9)
        low = block((0, 0, 0), (x * scale, y * scale, z * scale), draw_material(rng, family))
        shifted = (rng.uniform(-0.2, 0.2) * x, rng.uniform(-0.2, 0.2) * y, 2 * z + z * scale)
        parts.append(part(Kind.BOX, shifted, low.half_size, low.material, about(2, rng.uniform(0, np.pi))))
    return parts


def books(rng: Rng) -> list[Part]:
    """A pile of books."""
    parts, height = [], 0.0
    for _ in range(int(rng.integers(2, 6))):
        thick = rng.uniform(0.01, 0.03)
        size = (rng.uniform(0.07, 0.11), rng.uniform(0.1, 0.15), thick)
        parts.append(
            part(Kind.BOX, (0, 0, height + thick), size, draw_material(rng, "print"), about(2, rng.normal(0, 0.3)))
        )
        height += 2 * thick
    return parts


def mug(rng: Rng) -> list[Part]:
    """A mug, a glass or a bowl."""
    radius, height = rng.uniform(0.035, 0.07), rng.uniform(0.07, 0.13)
    return [column(0, height, radius, draw_material(rng, "ceramic", 0.5), rng.uniform(0.9, 1.35))]


def bottle(rng: Rng) -> list[Part]:
    """A bottle with a neck and a label."""
    radius, height = rng.uniform(0.032, 0.05), rng.uniform(0.14, 0.22)
    body = draw_material(rng, pick(rng, "plastic", "ceramic"), 0.5)
    return [
        column(0, height, radius, body),
        column(0.3 * height, 0.75 * height, radius * 1.02, draw_material(rng, "print", 0.5)),
        column(height, height * 1.25, radius, body, 0.35),
        column(height * 1.25, height * 1.45, radius * 0.37, draw_material(rng, "plastic")),
    ]


def vase(rng: Rng) -> list[Part]:
    """A belly with a neck."""
    radius, height = rng.uniform(0.07, 0.16), rng.uniform(0.1, 0.22)
    material = draw_material(rng, "ceramic")
    return [
        part(Kind.ELLIPSOID, (0, 0, height), (radius, radius, height), material),
        column(1.75 * height, 2.4 * height, radius * 0.4, material, rng.uniform(0.9, 1.6)),
    ]


def fruit(rng: Rng) -> list[Part]:
    """An apple to a pumpkin."""
    radius = rng.uniform(0.035, 0.12)
    size = (radius, radius, radius * rng.uniform(0.7, 1.2))
    return [
        part(Kind.ELLIPSOID, (0, 0, size[2]), size, draw_material(rng, pick(rng, "plastic", "foliage", "paint"), 0.6))
    ]


def chair(rng: Rng) -> list[Part]:
    """Seat, back and four legs."""
    seat, half = rng.uniform(0.42, 0.5), rng.uniform(0.19, 0.24)
    wood = draw_material(rng, pick(rng, "wood", "metal", "paint"))
    cushion = draw_material(rng, pick(rng, "fabric", "wood", "plastic"))
    top = rng.uniform(0.8, 1.05)
    parts = [
        block((0, 0, seat), (half, half, 0.03), cushion),
        block((0, half - 0.02, (seat + top) / 2 + 0.06), (half * 0.95, 0.02, (top - seat) / 2), cushion),
    ]
    inset = half - 0.03
    legs = [column(0, seat - 0.03, 0.022, wood, 1.0, x * inset, y * inset) for x in (-1, 1) for y in (-1, 1)]
    return [*parts, *legs]


def table(rng: Rng) -> list[Part]:
    """A table top on four legs or on one."""
    x, y, height = rng.uniform(0.3, 0.7), rng.uniform(0.25, 0.45), rng.uniform(0.42, 0.76)
    top, legs = (
        draw_material(rng, pick(rng, "wood", "planks", "plastic", "stone")),
        draw_material(rng, pick(rng, "wood", "metal")),
    )
    if rng.random() < 0.35:
        return [
            column(height - 0.03, height, x, top),
            column(0.03, height - 0.03, 0.04, legs),
            column(0, 0.03, x * 0.5, legs),
        ]
    leg = (0.025, 0.025, height / 2 - 0.01)
    corners = [(i * (x - 0.05), j * (y - 0.05)) for i in (-1, 1) for j in (-1, 1)]
    return [
        block((0, 0, height), (x, y, 0.02), top),
        *(block((corner_x, corner_y, leg[2]), leg, legs) for corner_x, corner_y in corners),
    ]


def lamp(rng: Rng) -> list[Part]:
    """A floor lamp with a glowing shade."""
    height, radius = rng.uniform(1.2, 1.7), rng.uniform(0.14, 0.24)
    metal = draw_material(rng, "metal")
    return [
        column(0, 0.03, 0.14, metal),
        column(0.03, height - 0.25, 0.015, metal),
        column(height - 0.3, height, radius, draw_material(rng, pick(rng, "glow", "fabric")), rng.uniform(0.4, 0.9)),
    ]


def armchair(rng: Rng) -> list[Part]:
    """Seat, back and two arms, one to two seats wide."""
    half = rng.uniform(0.35, 0.85)
    fabric = draw_material(rng, "fabric")
    return [
        block(
            (0, -0.05, 0.21), (half - 0.1, 0.38, 0.21), draw_material(rng, "fabric") if rng.random() < 0.3 else fabric
        ),
        block((0, 0.36, 0.42), (half - 0.1, 0.1, 0.42), fabric),
        block((-half, 0, 0.3), (0.1, 0.45, 0.3), fabric),
        block((half, 0, 0.3), (0.1, 0.45, 0.3), fabric),
    ]


def cabinet(rng: Rng) -> list[Part]:
    """A chest of drawers or a shelf with doors."""
    x, y, z = rng.uniform(0.25, 0.6), rng.uniform(0.18, 0.3), rng.uniform(0.3, 0.95)
    family = pick(rng, "wood", "paint", "planks")
    parts = [block((0, 0, z), (x, y, z), draw_material(rng, family))]
    front = draw_material(rng, family)
    count = int(rng.integers(2, 5))
    for k in range(count):
        height = 2 * z / count
        parts.append(block((0, -y, (k + 0.5) * height), (x * 0.92, 0.012, height * 0.43), front))
    return parts


def plant(rng: Rng) -> list[Part]:
    """A pot with a bushy plant or with large leaves."""
    radius, height = rng.uniform(0.1, 0.2), rng.uniform(0.15, 0.35)
    green = draw_material(rng, "foliage")
    parts = [column(0, height, radius * 0.75, draw_material(rng, pick(rng, "ceramic", "brickwork")), 1.3)]
    if rng.random() < 0.4:
        crown = rng.uniform(0.15, 0.35)
        return [*parts, part(Kind.ELLIPSOID, (0, 0, height + crown * 0.8), (crown, crown, crown), green)]
    for k in range(4):
        size = rng.uniform(0.15, 0.35)
        turn = about(2, k * np.pi / 4 + rng.uniform(0, 0.5)) @ about(0, np.pi / 2 + rng.normal(0, 0.25))
        parts.append(part(Kind.BLOB, (0, 0, height + size * 0.9), (size, size, size), green, turn, draw_blob(rng)))
    return parts


def person(rng: Rng) -> list[Part]:
    """A standing or walking person of flesh and blood, facing -y."""
    height = rng.uniform(1.5, 1.9) * (0.65 if rng.random() < 0.2 else 1.0)
    s = height / 1.75
    skin, shirt = draw_material(rng, "skin"), draw_material(rng, "fabric")
    trousers = draw_material(rng, "fabric")
    stride = rng.uniform(-0.25, 0.25)
    parts = [
        part(Kind.ELLIPSOID, (0, 0, 1.62 * s), (0.085 * s, 0.1 * s, 0.13 * s), skin),
        part(Kind.ELLIPSOID, (0, 0, 1.17 * s), (0.22 * s, 0.14 * s, 0.34 * s), shirt),
    ]
    for side in (-1, 1):
        leg = about(0, side * stride)
        hip = np.array([side * 0.09 * s, 0, 0.88 * s]) - leg @ np.array([0, 0, 0.43 * s])
        parts.append(part(Kind.FRUSTUM, triple(hip), (0.065 * s, 0.065 * s, 0.45 * s), trousers, leg, taper=1.35))
        arm = about(0, -side * stride * 1.5) @ about(1, side * -0.12)
        shoulder = np.array([side * 0.23 * s, 0, 1.4 * s]) - arm @ np.array([0, 0, 0.28 * s])
        parts.append(part(Kind.ELLIPSOID, triple(shoulder), (0.055 * s, 0.055 * s, 0.33 * s), shirt, arm))
    return parts
