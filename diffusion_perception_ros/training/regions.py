"""Samples of tasks that are asked about a region: what the network then sees, and what is then true."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from diffusion_perception_ros.model.metadata import TargetEncoding
from diffusion_perception_ros.tasks import Task
from diffusion_perception_ros.tasks.geometry import Geometry
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
    return Frames.cat([_focus(frames[slice(i, i + 1)], task, encoding, rng) for i in range(len(frames.image))])


def _focus(frame: Frames, task: Task, encoding: TargetEncoding, rng: np.random.Generator) -> Frames:
    visible = frame.truth.visible[0]
    zoom, *shift = np.exp(rng.uniform(-_ZOOM, _ZOOM)), *rng.uniform(-_SHIFT, _SHIFT, 2)
    given = np.asarray(visible.cpu())
    larger = {name: float(value * zoom) for name, value in encoding.parameters.items()}
    region = task.regions(replace(encoding, parameters=larger), {1: given} if given.any() else {}).get(1)
    if region is None:
        return frame
    height, width = visible.shape
    region = region.moved(shift[0] * region.height, shift[1] * region.width, height, width)
    geometry, part = Geometry(height, width, height).within(region), (..., *region.slices)

    def picture(image: Tensor) -> Tensor:
        return geometry.to_network(image[0][part], encoding.image_interpolation)[None]

    def mask(pixels: Tensor) -> Tensor:
        return geometry.to_network(pixels[part].to(torch.float32), "nearest") > 0.5

    truth = frame.truth
    unknown = torch.full_like(truth.depth, torch.nan)
    appearance = None if truth.appearance is None else picture(truth.appearance)
    return Frames(
        picture(frame.image),
        picture(frame.next_image),
        replace(
            truth,
            depth=unknown,
            flow=torch.full_like(truth.flow, torch.nan),
            flow_valid=torch.zeros_like(truth.flow_valid),
            visible=mask(truth.visible),
            amodal=mask(truth.amodal),
            normals=None,
            appearance=appearance,
        ),
    )
