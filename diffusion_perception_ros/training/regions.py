"""Samples of tasks that are asked about a region: what the network then sees, and what is then true."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_perception_ros.model.metadata import TargetEncoding
from diffusion_perception_ros.tasks import Task
from diffusion_perception_ros.training.frames import Frames

# Regions are by so much of their side smaller or larger than those that are asked about, and beside them.
_ZOOM, _SHIFT = 0.25, 0.1


def focus(frames: Frames, task: Task, encoding: TargetEncoding, rng: np.random.Generator) -> Frames:
    """The region of each frame's instance, of random size and place, resized as the pipeline resizes it.

    Frames whose instance is not seen, and those of tasks without regions, stay as they are. Of a region only the
    instance is known: distances and motions of pixels are not those of the frame.
    """
    if not task.regions(encoding, {1: np.ones((1, 1), bool)}):
        return frames
    truth, count = frames.truth, len(frames.image)
    zoom = np.exp(rng.uniform(-_ZOOM, _ZOOM, count))
    down, right = rng.uniform(-_SHIFT, _SHIFT, (2, count))
    change = torch.from_numpy(np.stack([zoom, down, right])).to(frames.image.device)
    regions = _Regions.around(truth.visible, encoding.parameters["context"], encoding.parameters["smallest"], *change)
    seen = truth.visible.flatten(1).any(dim=1).view(-1, 1, 1)

    def picture(images: Tensor) -> Tensor:
        return regions.resize(images, encoding.image_interpolation)

    def mask(masks: Tensor) -> Tensor:
        return regions.resize(masks.unsqueeze(1), "nearest").squeeze(1)

    return Frames(
        picture(frames.image),
        picture(frames.next_image),
        replace(
            truth,
            depth=truth.depth.masked_fill(seen, torch.nan),
            flow=truth.flow.masked_fill(seen.unsqueeze(1), torch.nan),
            flow_valid=truth.flow_valid & ~seen,
            visible=mask(truth.visible),
            amodal=mask(truth.amodal),
            normals=None,
            appearance=None if truth.appearance is None else picture(truth.appearance),
        ),
    )


@dataclass(frozen=True)
class _Regions:
    """`Region`, one for each of B images, on the device: a training step has no time to ask it for the masks.

    Attributes:
        start: (B, 2) int64, the first row and column.
        size: (B, 2) int64 rows and columns, no more than the image has.
    """

    start: Tensor
    size: Tensor

    @classmethod
    def around(
        cls, masks: Tensor, context: float, smallest: float, zoom: Tensor, down: Tensor, right: Tensor
    ) -> _Regions:
        """See ``Region.around`` and ``Region.moved``.

        Args:
            masks: (B, H, W) bool; an empty one has the whole image for its region.
            context: See there.
            smallest: See there.
            zoom: (B,) float64, a factor of both.
            down: (B,) float64, how far the region is moved, in regions.
            right: Likewise.
        """
        whole = torch.tensor(masks.shape[1:], device=masks.device)
        first, end = [], []
        for occupied, length in ((masks.any(dim=2), masks.shape[1]), (masks.any(dim=1), masks.shape[2])):
            index = torch.arange(length, device=masks.device)
            first.append(index.where(occupied, length).amin(dim=1))
            end.append((index + 1).where(occupied, 0).amax(dim=1))
        low, high = torch.stack(first, dim=1), torch.stack(end, dim=1)
        side = zoom * torch.maximum(context * (high - low).amax(dim=1).double(), smallest * whole.amin().double())
        size = torch.minimum(side.round().long().clamp(min=1).unsqueeze(1), whole)
        start = torch.minimum((low + high - size).div(2, rounding_mode="floor").clamp(min=0), whole - size)
        start = (start + torch.stack([down, right], dim=1) * size).round().long()
        start = torch.minimum(start.clamp(min=0), whole - size)
        is_empty = (high <= low).any(dim=1, keepdim=True)
        return cls(start.masked_fill(is_empty, 0), torch.where(is_empty, whole, size))

    def resize(self, images: Tensor, interpolation: str) -> Tensor:
        """(B, C, H, W) to the same size, as ``geometry.resize`` enlarges."""
        sides = [(n, self.start[:, i, None], self.size[:, i, None]) for i, n in enumerate(images.shape[2:])]
        if interpolation.startswith("nearest"):
            middle = 0.5 if interpolation == "nearest-exact" else 0.0
            rows, columns = (
                start + ((torch.arange(n, device=images.device) + middle) * (size / n)).long()
                for n, start, size in sides
            )
            sample = torch.arange(len(images), device=images.device).view(-1, 1, 1)
            return images[sample, :, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)
        places = []
        for n, start, size in sides:
            inside = (torch.arange(n, device=images.device) + 0.5) * (size / n) - 0.5
            inside = torch.minimum(inside.clamp(min=0), size - 1.0)
            places.append((2 * (start + inside) + 1) / n - 1)  # the centre of the first pixel is half a pixel from -1
        y, x = places
        height, width = images.shape[2:]
        grid = torch.stack([x.unsqueeze(1).expand(-1, height, -1), y.unsqueeze(2).expand(-1, -1, width)], dim=-1)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
