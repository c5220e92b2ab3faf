"""Where every visible place goes in the next frame, and whether it can be seen there."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffusion_perception_ros.scenes.instant import Instant, grown, is_empty
from diffusion_perception_ros.scenes.surface import Slots, Surface, nearest, reproject

# How much nearer something must be to hide a place: relative, and in metres.
_TOLERANCE = 1e-4
_NEAREST = 0.01


def flow_to(
    slots: Slots, surface: Surface, later: Instant, x: Tensor, y: Tensor, focal: Tensor
) -> tuple[Tensor, Tensor]:
    """Flow by reprojection through the rigid motion of each place's body and of the camera.

    Args:
        slots: The primitives.
        surface: What the pixel centres see now.
        later: The next frame.
        x: (F, 1, W) rays of the pixel centres.
        y: (F, H, 1) rays of the pixel centres.
        focal: (F, 1, 1) focal length in pixels.

    Returns:
        (F, H, W, 2) float32 pixels right and down, 0 for what is then behind the camera, and (F, H, W) bool validity.
    """
    point = reproject(surface, later)
    depth = point[2]
    ahead = depth > _NEAREST
    inverse = 1 / depth.masked_fill(~ahead, 1.0)
    next_x, next_y = point[0] * inverse, point[1] * inverse
    flow = torch.stack([(next_x - x) * focal, (next_y - y) * focal], -1)
    inside = (next_x.abs() <= x.abs().amax(2, keepdim=True)) & (next_y.abs() <= y.abs().amax(1, keepdim=True))
    inside &= ahead
    flow = flow.masked_fill(~ahead[..., None], 0)
    # Along the ray to a place that stays visible, nothing is nearer than the place itself.
    within = flow.masked_fill(~inside[..., None], 0)
    least, most = within.amin((0, 1, 2)).tolist(), within.amax((0, 1, 2)).tolist()
    before = max(0, math.ceil(most[1])), max(0, math.ceil(most[0]))
    after = max(0, math.ceil(-least[1])), max(0, math.ceil(-least[0]))
    boxes = [box if is_empty(box) else grown(box, before, after) for box in later.boxes(slots.layout, *depth.shape[1:])]
    seen = nearest(slots, later, next_x, next_y, boxes)[0]
    expected = depth.masked_fill(surface.look["sky"] > 0, float("inf"))
    unhidden = seen >= expected * (1 - _TOLERANCE) - _TOLERANCE
    return flow.float(), inside & unhidden
