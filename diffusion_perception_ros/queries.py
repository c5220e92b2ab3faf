"""From a request to the samples the network has to answer, and the pictures they are asked with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from diffusion_perception_ros.model.metadata import TargetEncoding
from diffusion_perception_ros.request import Request
from diffusion_perception_ros.tasks import Picture, Task
from diffusion_perception_ros.tasks.geometry import Geometry, Region, image_to_tensor


@dataclass(frozen=True)
class Query:
    """One sample for the network: an image, a prompt, the label that says what is wanted, and whose noise."""

    image: Picture
    prompt: Picture
    label: int
    member: int


def plan_queries(task: Task, encoding: TargetEncoding, request: Request, regions: Mapping[int, Region]) -> list[Query]:
    """The samples that one task needs: members, then prompts, then labels; instances are asked about in regions."""
    image = Picture("image", encoding.image_interpolation)
    prompts = [
        replace(prompt, region=regions.get(prompt.instance))
        for prompt in task.prompts(encoding, tuple(request.visible_masks))
    ]
    return [
        Query(
            replace(image, mirrored=mirrored, region=prompt.region), replace(prompt, mirrored=mirrored), label, member
        )
        for member in range(request.ensemble_size)
        for mirrored in [request.flip_members and member % 2 == 1]
        for prompt in prompts
        for label in encoding.labels
    ]


def render(pictures: Sequence[Picture], request: Request, geometry: Geometry, device: torch.device) -> list[Tensor]:
    """(3, R, R) float32 tensors in [-1, 1] on the device."""
    # Copied, because frames may be read-only or negatively strided views of messages, which torch cannot take.
    frames = {
        name: image_to_tensor(torch.from_numpy(np.array(frame, order="C")).to(device))
        for name, frame in (("image", request.image), ("next_image", request.next_image))
        if frame is not None
    }
    rendered = []
    for picture in pictures:
        seen = geometry.within(picture.region)
        part = (..., *picture.region.slices) if picture.region else ...
        if picture.source == "ones":
            resolution = geometry.resolution
            tensor = torch.ones(3, resolution, resolution, device=device)
        elif picture.source == "visible_mask":
            mask = torch.from_numpy(request.visible_masks[picture.instance]).to(device, torch.float32)
            tensor = seen.to_network((mask * 2 - 1).expand(3, -1, -1)[part], picture.interpolation)
        else:
            tensor = seen.to_network(frames[picture.source][part], picture.interpolation)
        rendered.append(tensor.flip(-1) if picture.mirrored else tensor)
    return rendered
