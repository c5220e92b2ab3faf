"""Dense optical flow from an image to the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_perception_ros.constants import constant
from diffusion_perception_ros.model.metadata import TargetEncoding
from diffusion_perception_ros.tasks.geometry import Geometry
from diffusion_perception_ros.tasks.target import Target, Truth
from diffusion_perception_ros.tasks.task import DecodeContext, Picture, Task


class Flow(Task):
    """Displacement of every pixel, prompted with the next image.

    ``displacement``, the released encoding: one image for dx and one for dy, each with a label of its own.
    ``displacement_xy``: one image, dx in its first channel and dy in its second, for half the work.
    """

    name = "flow"
    released = TargetEncoding("displacement", labels=(1002, 1003), parameters={"max_displacement": 75.0})
    kinds: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "displacement": ("max_displacement",),
        "displacement_xy": ("max_displacement",),
    }
    learned_from: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "displacement": ("flow", "flow_valid"),
        "displacement_xy": ("flow", "flow_valid"),
    }
    single_channel: ClassVar[tuple[str, ...]] = ("displacement",)
    num_labels: ClassVar[Mapping[str, int]] = {"displacement": 2}
    requires: ClassVar[tuple[str, ...]] = ("next_image",)

    def prompts(self, encoding: TargetEncoding, instances: Sequence[int]) -> list[Picture]:
        """The next image, resized as the image is."""
        return [Picture("next_image", encoding.image_interpolation)]

    def decode(self, images: Tensor, context: DecodeContext) -> dict[str, Any]:
        """``flow`` in input pixels; NaN where a component leaves the representable range [-1, 1].

        Network values times ``max_displacement`` are pixels of a frame of ``flow_reference_size`` squashed
        onto the network's square.
        """
        geometry = context.geometry
        network_pixels = pixels_per_displacement(context.encoding, geometry, context.flow_reference_size)
        most = tuple(a * b for a, b in zip(network_pixels, geometry.pixel_scale, strict=True))
        scale = constant(most, images.device, images.dtype).view(2, 1, 1)

        members = displacement(images[:, 0])
        mean = members.mean(dim=0)
        flow = geometry.to_input(mean * scale)
        # Nothing between representable values is not; only a CPU knows at once whether all are.
        if mean.device.type != "cpu" or mean.abs().max() > 1:
            flow = torch.where((flow.abs() > scale).any(dim=0), torch.nan, flow)
        fields: dict[str, Any] = {"flow": flow.permute(1, 2, 0).contiguous(), "max_displacement": most}
        if len(members) >= 3:
            deviation = geometry.to_input(members.std(dim=0)) * scale
            fields["flow_standard_deviation"] = deviation.norm(dim=0)
        return fields

    def encode_target(self, truth: Truth, encoding: TargetEncoding, flow_reference_size: tuple[int, int]) -> Target:
        """Pixels of the reference frame over ``max_displacement``; what is beyond it is clipped and not valid."""
        height, width = truth.flow.shape[-2:]
        scale = truth.flow.new_tensor(flow_reference_size) / truth.flow.new_tensor([width, height])
        value = truth.flow * (scale / encoding.parameters["max_displacement"]).view(2, 1, 1)
        valid = truth.flow_valid & (value.abs() <= 1).all(dim=1)
        images = value.nan_to_num().clamp(-1, 1)
        if encoding.kind == "displacement_xy":
            return Target(F.pad(images, (0, 0, 0, 0, 0, 1))[:, None], valid)
        return Target(images[:, :, None].expand(-1, -1, 3, -1, -1), valid)

    def unmirror(self, images: Tensor) -> Tensor:
        """Seen in a mirror, motion to the right is motion to the left."""
        sign = constant((-1.0, 1.0, 1.0), images.device, images.dtype)
        sign = sign.view(1, 1, 3, 1, 1) if images.shape[1] == 1 else sign[:2].view(1, 2, 1, 1, 1)
        return images.flip(-1) * sign


def displacement(images: Tensor) -> Tensor:
    """(B, labels, 3, R, R) answers of either encoding to (B, 2, R, R) displacements."""
    return images[:, 0, :2] if images.shape[1] == 1 else images.mean(dim=2)


def pixels_per_displacement(
    encoding: TargetEncoding, geometry: Geometry, flow_reference_size: tuple[int, int]
) -> tuple[float, float]:
    """(x, y) pixels of the network's square for a network value of 1; see ``CheckpointMetadata`` for the last one."""
    most = encoding.parameters["max_displacement"] * geometry.resolution
    return most / flow_reference_size[0], most / flow_reference_size[1]
