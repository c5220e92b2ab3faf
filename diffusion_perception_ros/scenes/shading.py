"""From surfaces to radiance: one source of light with soft shadows, light from all around, highlights and haze."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffusion_perception_ros.scenes.instant import Box, Instant, is_empty, transform
from diffusion_perception_ros.scenes.primitives import intersect
from diffusion_perception_ros.scenes.scene import Array, Scene
from diffusion_perception_ros.scenes.surface import Slots, Surface
from diffusion_perception_ros.scenes.textures import albedo

# How much of the light from all around a touching body takes away.
_OCCLUSION = 0.85
# In unit coordinates, how far away it takes nothing any more.
_REACH = 3.0


@dataclass(frozen=True)
class Illumination:
    """The frames' lights in their cameras' frames, float32 tensors (..., F, 1, 1) as in `scene.Light`.

    Attributes:
        source: (4) homogeneous.
        up: (3) unit vector.
        color: (3).
        above: (3) ambient light.
        below: (3) ambient light.
        haze: (4).
        penumbra: ().
        world_source: (F, 4) float64 on the CPU, the source in the world.
    """

    source: Tensor
    up: Tensor
    color: Tensor
    above: Tensor
    below: Tensor
    haze: Tensor
    penumbra: Tensor
    world_source: Array

    @classmethod
    def of(cls, scenes: Sequence[Scene], instant: Instant, device: torch.device) -> Illumination:
        """The scenes' lights at an instant."""
        to_camera = np.linalg.inv(instant.camera_to_world)
        lights = [scene.light for scene in scenes]

        def tensor(values: Sequence[object]) -> Tensor:
            rows = np.stack([np.asarray(value, np.float32) for value in values], -1)
            return torch.from_numpy(rows)[..., None, None].to(device)

        return cls(
            tensor([matrix @ light.source for matrix, light in zip(to_camera, lights, strict=True)]),
            tensor([matrix[:3, 2] for matrix in to_camera]),
            tensor([light.color for light in lights]),
            tensor([light.ambient_above for light in lights]),
            tensor([light.ambient_below for light in lights]),
            tensor([light.haze for light in lights]),
            tensor([light.penumbra for light in lights]),
            np.stack([light.source for light in lights]),
        )


def radiance(slots: Slots, instant: Instant, light: Illumination, surface: Surface, pixel_angle: Tensor) -> Tensor:
    """(3, F, h, w) linear RGB.

    Args:
        slots: The primitives, for shadows.
        instant: Where they are.
        light: What lights them.
        surface: What is seen.
        pixel_angle: (F, 1, 1) one over the focal length in pixels.
    """
    normal, look = surface.normal, surface.look
    height, width = surface.slot.shape[1:]
    boxes = instant.dimmed_boxes(light.world_source, _REACH, height, width)
    ray = surface.point / surface.distance
    slant = -(normal * ray).sum(0)
    # Between the short and the long side of the pixel's footprint.
    pixel = pixel_angle * surface.distance / slant.clamp(min=0.05) ** 0.7
    pixel = torch.lerp(pixel, pixel_angle.expand_as(pixel), look["sky"])
    color = torch.stack(albedo(look, surface.local, surface.facing, pixel))

    weight = light.source[3]
    towards = light.source[:3] - weight * surface.point
    length = (towards**2).sum(0).sqrt()
    towards = towards / length
    falloff = torch.lerp(torch.ones_like(length), 2.75 / (length**2 + 0.5), weight)
    cosine = (normal * towards).sum(0).clamp(min=0)
    direct, open_ = _visibility(
        slots, instant, light, surface, torch.lerp(torch.ones_like(length), length, weight), boxes
    )
    direct = direct * falloff
    upward = 0.5 + 0.5 * (normal * light.up).sum(0)
    open_ = open_ * _corners(surface)
    half = towards - ray
    highlight = ((half * normal).sum(0).clamp(min=0) / (half**2).sum(0).sqrt()) ** 32
    ambient = torch.lerp(light.below, light.above, upward) * open_
    lit = color * (ambient + light.color * (cosine * direct)) + light.color * (look["gloss"] * highlight * direct)
    lit = torch.lerp(lit, color, look["emission"].clamp(max=1)) * (1 + (look["emission"] - 1).clamp(min=0))

    # Towards the horizon the sky ends in the colour of the haze.
    elevation = (ray * light.up).sum(0).clamp(min=0)
    veil = torch.lerp(1 - (-light.haze[3] * surface.distance).exp(), (1 - elevation) ** 6, look["sky"])
    return torch.lerp(lit, light.haze[:3], veil)


def _visibility(
    slots: Slots, instant: Instant, light: Illumination, surface: Surface, length: Tensor, boxes: list[Box]
) -> tuple[Tensor, Tensor]:
    """How much of the source, and of all the surroundings, a place sees, each 0 to 1.

    The shadow of a body begins at its outline and deepens with the way that light had to go through it, sooner close
    behind it: a soft shadow without sampling the source. The occlusion of surroundings is that of a sphere (Quilez,
    "Sphere - occlusion", iquilezles.org/articles/sphereao), taken in the body's unit coordinates.
    """
    direct = torch.ones_like(length)
    open_ = torch.ones_like(length)
    weight = light.source[3]
    end = 1 / weight
    to_unit = instant.to_unit.float()
    shape = slots.shape.float()
    casters = slots.layout.casts_shadow
    casts = torch.from_numpy(casters.T.astype(np.float32))[..., None, None].to(length.device)
    for n in np.flatnonzero(casters.any(0)).tolist():
        if is_empty(boxes[n]):
            continue
        rows, columns = boxes[n]
        matrix = to_unit[n]
        normal = surface.normal[:, :, rows, columns]
        span = length[:, rows, columns] if length.shape[1] > 1 else length
        origin = transform(matrix, surface.point[:, :, rows, columns])
        direction = (matrix[:3] * light.source[:3, None]).sum(0) + weight * (matrix[3] - origin)
        near, far = intersect(slots.layout.kinds[n], origin, direction, shape[n])
        near = near.clamp(min=0) * span
        inside = torch.minimum(far, end) * span - near
        other = (surface.slot[:, rows, columns] != n) * casts[n]
        direct[:, rows, columns] *= 1 - other * (inside / (2 * light.penumbra * near + 0.015)).clamp(0, 1)
        outward = matrix[0] * normal[0] + matrix[1] * normal[1] + matrix[2] * normal[2]
        away = (origin**2).sum(0)
        cosine = -(origin * outward).sum(0) / ((outward**2).sum(0) * away).clamp(min=1e-12).sqrt()
        share = _OCCLUSION * cosine.clamp(min=0) / away.clamp(min=1) * (1.5 - 1.5 * away / _REACH**2).clamp(0, 1)
        open_[:, rows, columns] *= 1 - other * share
    return direct, open_


def _corners(surface: Surface) -> Tensor:
    """The light from all around that reaches a room's walls: less in the corners."""
    gap = (1 - surface.unit.float().abs()) * torch.stack([surface.look[name] for name in ("width", "depth", "height")])
    dark = 0.4 * (-gap.clamp(min=0) / 0.3).exp() * (1 - surface.facing)
    return 1 - surface.look["room"] * (1 - (1 - dark).prod(0))
