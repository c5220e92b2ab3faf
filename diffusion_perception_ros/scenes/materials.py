"""What surfaces look like: families of materials with colours and metric texture scales, drawn at random."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PATTERNS = ("stripes", "checker", "bricks", "rings", "blots", "text", "dots")
# The columns of `Primitives.material`. Colours are linear RGB, frequencies in 1/m; `turn` is the angle of the pattern
# on the surface, `aspect` its horizontal over its vertical frequency, `offset` makes no two textures alike.
COLUMNS = (
    *("red", "green", "blue", "second_red", "second_green", "second_blue", "stain_red", "stain_green", "stain_blue"),
    *("frequency", "gain", "contrast", "stretch_x", "stretch_y", "stretch_z"),
    *("pattern_frequency", "aspect", "turn_cosine", "turn_sine", "warp"),
    *PATTERNS,
    *("stain", "gloss", "emission", "offset_x", "offset_y", "offset_z"),
)

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Family:
    """Ranges that a family's materials are drawn from.

    Attributes:
        hue: Range around the colour circle, 0 red, 1/3 green, 2/3 blue.
        saturation: Range.
        value: Range (of the gamma-coded colour).
        grain: Typical size in metres of the largest random structure.
        contrast: Range of its strength.
        patterns: Weights of the patterns, and of none.
        period: Range of the pattern's period in metres.
        gloss: Largest strength of highlights.
        stretch: How much longer than wide the grain is.
    """

    hue: tuple[float, float] = (0.0, 1.0)
    saturation: tuple[float, float] = (0.1, 0.8)
    value: tuple[float, float] = (0.3, 0.95)
    grain: float = 0.1
    contrast: tuple[float, float] = (0.15, 0.6)
    patterns: dict[str, float] | None = None
    period: tuple[float, float] = (0.03, 0.2)
    gloss: float = 0.1
    stretch: float = 1.0


FAMILIES = {
    "wood": Family(
        (0.04, 0.12), (0.35, 0.75), (0.3, 0.8), 0.06, (0.2, 0.5), {"rings": 2, "none": 1}, (0.02, 0.08), 0.15, 8
    ),
    "planks": Family((0.03, 0.12), (0.2, 0.7), (0.3, 0.8), 0.08, (0.2, 0.5), {"bricks": 1}, (0.08, 0.2), 0.2, 8),
    "metal": Family(
        (0.55, 0.65), (0.0, 0.15), (0.3, 0.85), 0.15, (0.1, 0.4), {"none": 3, "stripes": 1}, (0.02, 0.1), 0.6, 4
    ),
    "plastic": Family(
        saturation=(0.3, 0.95), grain=0.2, contrast=(0.1, 0.3), patterns={"none": 2, "stripes": 1, "dots": 1}, gloss=0.5
    ),
    "paint": Family(
        saturation=(0.2, 0.9),
        grain=0.3,
        contrast=(0.1, 0.35),
        patterns={"none": 4, "stripes": 1},
        period=(0.2, 0.6),
        gloss=0.6,
    ),
    "fabric": Family(
        saturation=(0.1, 0.8),
        grain=0.04,
        contrast=(0.25, 0.6),
        patterns={"none": 1, "stripes": 2, "checker": 2, "dots": 1, "blots": 1},
        gloss=0.0,
    ),
    "print": Family(
        saturation=(0.05, 0.7),
        value=(0.6, 1.0),
        patterns={"text": 3, "blots": 1, "stripes": 1, "dots": 1},
        period=(0.02, 0.06),
    ),
    "cardboard": Family(
        (0.07, 0.1), (0.3, 0.5), (0.5, 0.75), 0.1, (0.1, 0.3), {"none": 1, "text": 2}, (0.03, 0.08), 0.0
    ),
    "foliage": Family(
        (0.17, 0.4), (0.35, 0.8), (0.2, 0.6), 0.12, (0.6, 1.0), {"blots": 2, "none": 1}, (0.1, 0.3), 0.05
    ),
    "bark": Family((0.04, 0.1), (0.2, 0.5), (0.2, 0.5), 0.08, (0.5, 0.9), {"none": 1}, gloss=0.0, stretch=5),
    "stone": Family((0.05, 0.6), (0.0, 0.2), (0.3, 0.75), 0.25, (0.4, 0.9), {"none": 2, "blots": 1}, (0.1, 0.5), 0.1),
    "skin": Family((0.03, 0.08), (0.3, 0.6), (0.35, 0.95), 0.1, (0.1, 0.25), {"none": 1}),
    "fur": Family(
        (0.04, 0.11), (0.05, 0.6), (0.15, 0.9), 0.08, (0.4, 0.8), {"blots": 1, "none": 1}, (0.15, 0.4), 0.0, 3
    ),
    "ceramic": Family(
        saturation=(0.0, 0.6),
        value=(0.5, 1.0),
        contrast=(0.05, 0.3),
        patterns={"none": 2, "stripes": 1, "dots": 1, "blots": 1},
        gloss=0.6,
    ),
    "rubber": Family(saturation=(0.0, 0.1), value=(0.08, 0.25), contrast=(0.1, 0.4), patterns={"none": 1}, gloss=0.2),
    "plaster": Family(
        (0.05, 0.65), (0.0, 0.3), (0.5, 0.98), 0.5, (0.08, 0.3), {"none": 4, "stripes": 1}, (0.1, 0.5), 0.0
    ),
    "wallpaper": Family(
        (0.0, 1.0),
        (0.05, 0.45),
        (0.45, 0.95),
        0.2,
        (0.1, 0.3),
        {"stripes": 1, "dots": 1, "blots": 1, "checker": 0.5},
        (0.08, 0.4),
        0.0,
    ),
    "tiles": Family(
        saturation=(0.0, 0.4), grain=0.2, patterns={"bricks": 1, "checker": 1}, period=(0.1, 0.5), gloss=0.5
    ),
    "carpet": Family(
        saturation=(0.05, 0.6),
        value=(0.2, 0.8),
        grain=0.1,
        contrast=(0.3, 0.7),
        patterns={"none": 1, "blots": 1, "checker": 0.5},
        period=(0.3, 0.8),
    ),
    "brickwork": Family((0.0, 0.08), (0.2, 0.7), (0.35, 0.75), 0.1, (0.2, 0.6), {"bricks": 1}, (0.08, 0.25), 0.0),
    "concrete": Family(
        (0.05, 0.65), (0.0, 0.12), (0.35, 0.8), 0.6, (0.3, 0.7), {"none": 2, "bricks": 1}, (0.6, 2.0), 0.0
    ),
    "asphalt": Family(
        (0.05, 0.65), (0.0, 0.1), (0.2, 0.45), 0.4, (0.4, 0.9), {"none": 3, "stripes": 0.5}, (2.0, 4.0), 0.05
    ),
    "grass": Family((0.17, 0.33), (0.35, 0.75), (0.25, 0.6), 0.5, (0.5, 1.0), {"none": 2, "blots": 1}, (0.5, 2.0), 0.0),
    "earth": Family((0.05, 0.12), (0.2, 0.55), (0.3, 0.7), 0.5, (0.4, 0.9), {"none": 2, "blots": 1}, (0.3, 1.5), 0.0),
    "facade": Family(
        (0.0, 0.15), (0.05, 0.5), (0.4, 0.9), 0.8, (0.2, 0.4), {"checker": 2, "bricks": 1}, (1.5, 3.5), 0.2
    ),
    "glow": Family((0.08, 0.6), (0.0, 0.2), (0.85, 1.0), 0.5, (0.05, 0.2), {"none": 1}),
}


def draw_material(rng: np.random.Generator, name: str, scale: float = 1.0) -> Vector:
    """(len(COLUMNS),) one material.

    Args:
        rng: Source of randomness.
        name: One of `FAMILIES`.
        scale: Factor on the texture's size, for things much larger or smaller than furniture.
    """
    family = FAMILIES[name]
    hue = rng.uniform(*family.hue)
    saturation = rng.uniform(*family.saturation)
    value = rng.uniform(*family.value)
    first = _linear(hue, saturation, value)
    if name in ("fabric", "print", "plastic", "ceramic", "wallpaper", "tiles", "paint") and rng.random() < 0.5:
        second = _linear(rng.random(), rng.uniform(0.0, 0.9), rng.uniform(0.1, 1.0))
    else:
        second = _linear(hue + rng.normal(0, 0.03), saturation * rng.uniform(0.5, 1.3), value * rng.uniform(0.35, 0.75))
    stain = _linear(hue + rng.normal(0, 0.05), saturation * rng.uniform(0.5, 1.5), value * rng.uniform(0.3, 1.4))
    patterns = family.patterns or {"none": 1.0}
    weights = np.array(list(patterns.values()), float)
    pattern = list(patterns)[int(rng.choice(len(weights), p=weights / weights.sum()))]
    strength = np.zeros(len(PATTERNS))
    if pattern != "none":
        strength[PATTERNS.index(pattern)] = rng.uniform(0.5, 1.0)
    aspect = {"bricks": rng.uniform(0.15, 0.6), "text": rng.uniform(1.0, 3.0)}.get(pattern, 1.0)
    turn = 0.0 if pattern in ("bricks", "text") or rng.random() < 0.5 else rng.uniform(0, np.pi)
    stretch = np.ones(3)
    stretch[2 if name in ("bark", "fur") else int(rng.integers(3))] = 1 / family.stretch
    return np.concatenate(
        [
            *(first, second, stain),
            [scale_free(rng, family.grain * scale), rng.uniform(0.45, 0.8), rng.uniform(*family.contrast)],
            stretch,
            [1 / (np.exp(rng.uniform(*np.log(family.period))) * scale), aspect, np.cos(turn), np.sin(turn)],
            [0.0 if pattern in ("checker", "text", "bricks") else rng.uniform(0.0, 0.6)],
            strength,
            [rng.uniform(0.0, 0.8) ** 2, family.gloss * rng.random(), rng.uniform(0.6, 1.6) * (name == "glow")],
            rng.uniform(0, 16, 3),
        ]
    )


def scale_free(rng: np.random.Generator, size: float) -> float:
    """A frequency in 1/m around that of structures of the given size, from half to twice."""
    return float(np.exp(rng.uniform(-0.7, 0.7)) / size)


def _linear(hue: float, saturation: float, value: float) -> Vector:
    """Linear RGB of a colour given as hue, saturation and gamma-coded value."""
    return np.array(colorsys.hsv_to_rgb(hue % 1, min(1.0, saturation), min(1.0, value))) ** 2.2
