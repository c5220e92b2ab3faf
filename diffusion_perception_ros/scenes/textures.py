"""Colours of surfaces, evaluated from where a point lies on its own object, so that textures move with objects.

Every pattern is continuous and fades out where its detail is finer than a pixel: neither devices nor small motions can
make it flicker.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

_PERIOD = 32
_OCTAVES = 4
_LACUNARITY = 2.13


def albedo(material: Mapping[str, Tensor], point: Tensor, facing: Tensor, pixel: Tensor) -> list[Tensor]:
    """Linear red, green and blue of surface points.

    Args:
        material: Columns of `materials.COLUMNS`, each (F, ...).
        point: (3, F, ...) in the part's frame, in metres.
        facing: (3, F, ...) 1 for the axis that the normal is closest to in the part's frame, 0 for the others.
        pixel: (F, ...) how many metres of the surface a pixel sees.
    """
    octaves, faded = _octaves(material, point, pixel)
    cloudiness = octaves[0] * material["contrast"]
    weight = material["gain"]
    for octave in octaves[1:]:
        cloudiness = cloudiness + octave * (material["contrast"] * weight)
        weight = weight * material["gain"]
    mixed = _pattern(material, point, facing, pixel, octaves, faded)
    stain = _step(octaves[0] + 0.5 * octaves[1] - 0.15, 0.15) * material["stain"]
    brightness = (0.85 * cloudiness).exp()
    colors = []
    for name in ("red", "green", "blue"):
        color = torch.lerp(material[name], material["second_" + name], mixed)
        colors.append(torch.lerp(color, material["stain_" + name], stain) * brightness)
    return colors


def _octaves(material: Mapping[str, Tensor], point: Tensor, pixel: Tensor) -> tuple[list[Tensor], Tensor]:
    """Value noise in [-1, 1] at rising frequencies, and how much of the finest one a pixel resolves."""
    frequency = material["frequency"]
    octaves = []
    fade = frequency
    for k in range(_OCTAVES):
        # Each octave is moved away from the others, so that their lattices do not meet.
        coordinates = [
            (point[i] * (frequency * material["stretch_" + axis])) + (material["offset_" + axis] + 7.31 * k)
            for i, axis in enumerate("xyz")
        ]
        fade = (1.6 - 2.2 * pixel * frequency).clamp(0, 1)
        octaves.append(value_noise(*coordinates) * fade)
        frequency = frequency * _LACUNARITY
    return octaves, fade


def value_noise(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Smooth noise in [-1, 1] with one value per unit cube and a period of 32."""
    lattice = _lattice(x.device)
    floors = [x.floor(), y.floor(), z.floor()]
    weights = []
    for value, floor in zip((x, y, z), floors, strict=True):
        part = value - floor
        weights.append(part * part * (3 - 2 * part))
    mask = _PERIOD - 1
    low = [floor.to(torch.int64) & mask for floor in floors]
    high = [(cell + 1) & mask for cell in low]
    xs, ys, zs = (
        [cell * stride for cell in pair] for pair, stride in zip(zip(low, high, strict=True), _STRIDES, strict=True)
    )
    planes = []
    for iz in zs:
        rows = []
        for iy in ys:
            base = iy + iz
            ends = [lattice.index_select(0, (base + ix).flatten()).view_as(x) for ix in xs]
            rows.append(torch.lerp(ends[0], ends[1], weights[0]))
        planes.append(torch.lerp(rows[0], rows[1], weights[1]))
    return torch.lerp(planes[0], planes[1], weights[2])


_STRIDES = (1, _PERIOD, _PERIOD**2)


@cache
def _lattice(device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(20_240_601)
    return (torch.rand(_PERIOD**3, generator=generator) * 2 - 1).to(device)


def _pattern(
    material: Mapping[str, Tensor], point: Tensor, facing: Tensor, pixel: Tensor, octaves: list[Tensor], faded: Tensor
) -> Tensor:
    """How much of the second colour there is, 0 to 1."""
    frequency = material["pattern_frequency"]
    horizontal = torch.lerp(point[0], point[1], facing[0])
    vertical = torch.lerp(point[2], point[1], facing[2])
    cosine, sine = material["turn_cosine"], material["turn_sine"]
    warp = material["warp"] * octaves[1]
    u = (horizontal * cosine + vertical * sine) * frequency * material["aspect"] + warp
    v = (vertical * cosine - horizontal * sine) * frequency + warp
    width = pixel * frequency
    blur_u, blur_v = width * material["aspect"] + 0.02, width + 0.02
    wave_u, wave_v = _square(u, blur_u), _square(v, blur_v)
    radius = (point[1] ** 2 + point[2] ** 2).sqrt() * frequency + 0.7 * octaves[0] + warp
    in_cell = (u - u.floor() - 0.5) ** 2 + (v - v.floor() - 0.5) ** 2
    resolved = (1.6 - 2.5 * width).clamp(0, 1)
    lines = _step(octaves[-1] + 0.6 * octaves[-2], 0.2) * _step(0.28 - (v - v.floor() - 0.5).abs(), 0.06 + width)
    values = {
        "stripes": 0.5 + 0.5 * wave_u,
        "checker": 0.5 + 0.5 * wave_u * wave_v,
        "bricks": _bricks(u, v, blur_u, blur_v),
        "rings": 0.5 + 0.5 * _square(radius, width + 0.3),
        "blots": _step(octaves[0] + 0.6 * octaves[1] + 0.3 * octaves[2], 0.1),
        "text": torch.lerp(faded * 0 + 0.3, lines, torch.minimum(resolved, faded)),
        "dots": torch.lerp(width * 0 + 0.28, _step(0.09 - in_cell, 0.03 + 0.3 * width), resolved),
    }
    mixed = torch.zeros_like(u)
    for name, value in values.items():
        mixed = mixed + material[name] * value
    return mixed


def _bricks(u: Tensor, v: Tensor, blur_u: Tensor, blur_v: Tensor) -> Tensor:
    """Mortar (1) around staggered bricks of various tones (towards 0)."""
    row = v.floor()
    shifted = u + 0.5 * (row - 2 * (row / 2).floor())
    column = shifted.floor()
    across, along = (v - row - 0.5).abs(), (shifted - column - 0.5).abs()
    mortar = torch.maximum(_step(across - 0.46, 0.02 + blur_v), _step(along - 0.48, 0.02 + blur_u))
    cell = (column.to(torch.int64) * 7 + row.to(torch.int64) * 131) & (_PERIOD**3 - 1)
    tone = 0.25 + 0.25 * _lattice(u.device).index_select(0, cell.flatten()).view_as(u)
    fade = (1.6 - 2 * torch.maximum(blur_u, blur_v)).clamp(0, 1)
    return torch.lerp(torch.full_like(u, 0.35), torch.lerp(tone, torch.ones_like(u), mortar), fade)


def _square(phase: Tensor, blur: Tensor) -> Tensor:
    """A wave between -1 and 1 of period 1 whose edges are as wide as ``blur`` (in periods)."""
    triangle = 4 * (phase - phase.floor() - 0.5).abs() - 1
    return (triangle / (2 * blur)).clamp(-1, 1) * (1.8 - 3 * blur).clamp(0, 1)


def _step(value: Tensor, width: Tensor | float) -> Tensor:
    """0 to 1 as ``value`` passes 0, within about ``width``."""
    return (0.5 + 0.5 * value / width).clamp(0, 1)
