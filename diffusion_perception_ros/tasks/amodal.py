"""Amodal completion: the whole of each partly hidden object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_perception_ros.model.metadata import TargetEncoding
from diffusion_perception_ros.predictions import AmodalInstance
from diffusion_perception_ros.tasks.geometry import Region
from diffusion_perception_ros.tasks.target import Target, Truth
from diffusion_perception_ros.tasks.task import DecodeContext, Picture, Task


class Amodal(Task):
    """The object behind each visible mask.

    ``rgb_on_white`` (pix2gestalt, Ozguroglu et al., CVPR 2024) answers with the whole object on a white
    background; what is not white is the object, so white objects are beyond it. ``mask`` answers with the
    mask itself, -1 and 1. ``mask_in_region`` does so about the surroundings of the visible mask, which the network sees
    as large as its resolution allows: see ``Region.around`` for its parameters. Beyond them there is no object.
    """

    name = "amodal"
    released = TargetEncoding("rgb_on_white", labels=(1001,), parameters={"threshold": 230.0})
    kinds: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "rgb_on_white": ("threshold",),
        "mask": (),
        "mask_in_region": ("context", "smallest"),
    }
    learned_from: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "rgb_on_white": ("visible", "amodal", "appearance"),
        "mask": ("visible", "amodal"),
        "mask_in_region": ("visible", "amodal"),
    }
    single_channel: ClassVar[tuple[str, ...]] = ("mask", "mask_in_region")
    requires: ClassVar[tuple[str, ...]] = ("visible_masks",)

    def prompts(self, encoding: TargetEncoding, instances: Sequence[int]) -> list[Picture]:
        """The visible mask of each instance."""
        return [Picture("visible_mask", "nearest", instance) for instance in instances]

    def regions(self, encoding: TargetEncoding, visible_masks: Mapping[int, NDArray[np.bool_]]) -> Mapping[int, Region]:
        """See ``Task``."""
        if encoding.kind != "mask_in_region":
            return {}
        context, smallest = encoding.parameters["context"], encoding.parameters["smallest"]
        return {instance: Region.around(mask, context, smallest) for instance, mask in visible_masks.items()}

    def decode(self, images: Tensor, context: DecodeContext) -> dict[str, Any]:
        """``amodal``: per instance the per-channel median of the members, resized, then thresholded."""
        members = images[:, :, 0]
        median = members[0] if len(members) == 1 else members.median(dim=0).values  # (instances, 3, R, R)
        masks = _masks(median, context)
        appearances: list[Any] = [None] * len(masks)
        if context.encoding.kind == "rgb_on_white":
            rgb = context.geometry.to_input(median).add(1).mul(127.5).round_().clamp_(0, 255).to(torch.uint8)
            appearances = list(rgb.permute(0, 2, 3, 1).contiguous().cpu().numpy())
        member_masks = [_masks(member, context) for member in members] if len(members) > 1 else []

        instances = []
        for i, (instance, visible) in enumerate(context.visible_masks.items()):
            mask = masks[i] | visible
            agreement = float("nan")
            if member_masks:
                agreement = float(np.mean([_iou(member[i] | visible, mask) for member in member_masks]))
            instances.append(AmodalInstance(instance, visible, mask, appearances[i], agreement))
        return {"amodal": instances}

    def encode_target(self, truth: Truth, encoding: TargetEncoding, flow_reference_size: tuple[int, int]) -> Target:
        """The mask as -1 and 1, or the picture of the whole object, where it is known."""
        everywhere = torch.ones_like(truth.amodal)
        if encoding.kind != "rgb_on_white":
            images = truth.amodal.to(torch.float32).mul(2).sub(1)
            return Target(images[:, None, None].expand(-1, 1, 3, -1, -1), everywhere)
        if truth.appearance is None:
            return super().encode_target(truth, encoding, flow_reference_size)
        return Target(truth.appearance.mul(2).sub(1).unsqueeze(1), everywhere)


def _masks(images: Tensor, context: DecodeContext) -> NDArray[np.bool_]:
    """(instances, 3, R, R) to (instances, H, W): where each object is."""
    geometry = context.geometry
    if context.encoding.kind == "rgb_on_white":
        darkest = geometry.to_input(images).amin(dim=1)
        masks = darkest < context.encoding.parameters["threshold"] / 127.5 - 1
        return masks.cpu().numpy()
    means = images.mean(dim=1)
    if not context.regions:
        return (geometry.to_input(means) > 0).cpu().numpy()
    masks = images.new_zeros((len(images), geometry.height, geometry.width), dtype=torch.bool)
    for mask, mean, region in zip(masks, means, context.regions.values(), strict=True):
        # Clipped, so that of several network pixels in one of the image each has one vote.
        part = geometry.within(region).to_input(mean.clamp(-1, 1), "area")
        mask[region.slices] = part > 0
    return masks.cpu().numpy()  # all at once, because a GPU has to be waited for


def _iou(a: np.ndarray[Any, np.dtype[np.bool_]], b: np.ndarray[Any, np.dtype[np.bool_]]) -> float:
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0
