"""Smooth outlines: pixels that several surfaces share get each surface's colour in the share it covers.

Colours inside of surfaces need no more than one ray each, since textures fade out what pixels can't resolve and shadows
are soft. So only outlines are sampled more densely, and only for which surface is there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffusion_perception_ros.scenes.instant import Box, Instant, grown, is_empty
from diffusion_perception_ros.scenes.surface import Slots, faces, nearest

# Where in the pixel the rays pass; their mean is its centre, where the truth is.
_SUBSAMPLES = ((-0.125, -0.375), (0.375, -0.125), (0.125, 0.375), (-0.375, 0.125))


def anti_alias(
    image: Tensor, slots: Slots, instant: Instant, face: Tensor, x: Tensor, y: Tensor, focal: Tensor
) -> None:
    """Replace the colours of pixels at outlines.

    Args:
        image: (3, F, H, W) of pixel centres, changed in place.
        slots: The primitives.
        instant: Where they are.
        face: (F, H, W) which side of which primitive the pixel centres see.
        x: (F, 1, W) rays of the pixel centres.
        y: (F, H, 1) rays of the pixel centres.
        focal: (F, 1, 1) focal length in pixels.
    """
    edge = _edges(face)
    counts = edge.sum(2).cumsum(1).cpu()
    most = int(counts[:, -1].max())
    if not most:
        return
    frame, row, column = edge.nonzero(as_tuple=True)
    # The edge pixels of each frame in a row of their own; rows with fewer end in repetitions of the first pixel.
    before = (counts[:, -1].cumsum(0) - counts[:, -1]).to(edge.device)
    place = torch.arange(len(frame), device=frame.device) - before[frame]
    rows, columns = torch.zeros(2, len(edge), most, dtype=torch.int64, device=edge.device)
    rows[frame, place], columns[frame, place] = row, column

    shift = torch.tensor(_SUBSAMPLES, device=edge.device, dtype=torch.float64)[:, None]
    ray_x = x[:, 0].gather(1, columns)[:, None] + shift[:, :, 0] / focal
    ray_y = y[:, :, 0].gather(1, rows)[:, None] + shift[:, :, 1] / focal
    boxes = _boxes_in_lists(instant.boxes(slots.layout, *edge.shape[1:]), counts)
    depth, slot = nearest(slots, instant, ray_x, ray_y, boxes)
    met = faces(slots, instant, ray_x, ray_y, depth, slot)
    color = _nearby_color(image, face, met, rows[:, None], columns[:, None], shift.float())
    image[:, frame, row, column] = color.mean(2)[:, frame, place]


def _nearby_color(image: Tensor, face: Tensor, met: Tensor, rows: Tensor, columns: Tensor, shift: Tensor) -> Tensor:
    """(3, F, 4, K) colour of each ray: bilinear between the four pixels around it, of those that see the same face.

    A face that none of them sees, thinner than a pixel, gets the colour of the pixel itself.
    """
    height, width = face.shape[1:]
    colors, faces_ = image.flatten(2), face.flatten(1)
    right, down = shift[:, :, 0], shift[:, :, 1]
    total = torch.full(met.shape, 1e-6, device=image.device)
    own = (rows * width + columns).expand_as(met)
    first = torch.arange(len(face), device=face.device)[:, None, None] * (height * width)

    def look_up(place: Tensor) -> Tensor:
        return colors.flatten(1).index_select(1, (place + first).flatten()).view(3, *met.shape)

    color = look_up(own) * total
    for across in (False, True):
        for along in (False, True):
            weight = (right.abs() if across else 1 - right.abs()) * (down.abs() if along else 1 - down.abs())
            column = (columns + across * right.sign().long()).clamp(0, width - 1)
            line = (rows + along * down.sign().long()).clamp(0, height - 1)
            place = line * width + column
            same = faces_.flatten().index_select(0, (place + first).flatten()).view_as(met) == met
            share = weight * same
            color = color + look_up(place) * share
            total = total + share
    return color / total


def _edges(face: Tensor) -> Tensor:
    """(F, H, W) bool, pixels that see another face than one of their four neighbours."""
    edge = torch.zeros_like(face, dtype=torch.bool)
    for axis in (1, 2):
        count = face.shape[axis] - 1
        differ = face.narrow(axis, 0, count) != face.narrow(axis, 1, count)
        edge.narrow(axis, 0, count).logical_or_(differ)
        edge.narrow(axis, 1, count).logical_or_(differ)
    return edge


def _boxes_in_lists(boxes: list[Box], counts: Tensor) -> list[Box]:
    """Which entries of the frames' lists of pixels, in rising order of rows, lie in the rows of each box.

    Args:
        boxes: In the image.
        counts: (F, H) how many pixels of a list are in a row or above it.
    """
    height = counts.shape[1]
    ends = [0, *counts.amax(0).tolist()]
    starts = [0, *counts.amin(0).tolist()]
    lists = []
    for box in boxes:
        if is_empty(box):
            lists.append((slice(0, 4), slice(0, 0)))
            continue
        rows = grown(box, (1, 1), (1, 1))[0]
        lists.append((slice(0, 4), slice(starts[rows.start], ends[min(height, rows.stop)])))
    return lists
