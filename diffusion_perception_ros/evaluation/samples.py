"""What a dataset gives: pictures with the truth that is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.errors import InputError


@dataclass(frozen=True)
class DepthTruth:
    """Depth along the optical axis.

    Attributes:
        depth: (H, W) float32 metres.
        valid: (H, W) bool, where ``depth`` holds.
    """

    depth: NDArray[np.float32]
    valid: NDArray[np.bool_]

    @classmethod
    def within(cls, depth: NDArray[np.float32], nearest: float, farthest: float) -> DepthTruth:
        """Valid strictly between two depths in metres; neither infinity nor NaN is."""
        return cls(depth, (depth > nearest) & (depth < farthest))


@dataclass(frozen=True)
class FlowTruth:
    """Optical flow to the next image.

    Attributes:
        flow: (H, W, 2) float32 pixels, right and down.
        valid: (H, W) bool, where ``flow`` holds.
    """

    flow: NDArray[np.float32]
    valid: NDArray[np.bool_]

    @classmethod
    def where_finite(cls, flow: NDArray[np.float32]) -> FlowTruth:
        """Valid where neither component is NaN or infinite."""
        return cls(flow, np.asarray(np.isfinite(flow).all(axis=2)))


@dataclass(frozen=True)
class NormalTruth:
    """Surface normals.

    Attributes:
        normals: (H, W, 3) float32 unit vectors in the camera's optical frame (x right, y down, z forward).
        valid: (H, W) bool, where ``normals`` holds: there is no surface in the sky.
    """

    normals: NDArray[np.float32]
    valid: NDArray[np.bool_]

    @classmethod
    def where_known(cls, vectors: NDArray[np.float32]) -> NormalTruth:
        """Valid where vectors, which are rounded, have about unit length; zero, NaN and infinity do not."""
        return cls(vectors, np.abs(np.linalg.norm(vectors, axis=2) - 1) < 0.01)


@dataclass(frozen=True)
class InstanceTruth:
    """One object.

    Attributes:
        visible: (H, W) bool, what is seen of it, at least one pixel.
        amodal: (H, W) bool, all of it inside the image.
        appearance: (H, W, 3) uint8 RGB, all of it on white; None where unknown.
    """

    visible: NDArray[np.bool_]
    amodal: NDArray[np.bool_]
    appearance: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Sample:
    """One image, the next one where flow is known, and the truth.

    Attributes:
        name: Where it came from, for messages.
        image: (H, W, 3) uint8 RGB.
        next_image: (H, W, 3) uint8 RGB.
        depth: None where unknown.
        flow: None where unknown.
        instances: With disjoint visible masks; instance k is label k + 1 in `labels`.
        normals: None where unknown.

    Raises:
        InputError: Images and truth differ in size, or flow has no next image.
    """

    name: str
    image: NDArray[np.uint8]
    next_image: NDArray[np.uint8] | None = None
    depth: DepthTruth | None = None
    flow: FlowTruth | None = None
    instances: Sequence[InstanceTruth] = ()
    normals: NormalTruth | None = None

    def __post_init__(self) -> None:
        others: dict[str, NDArray[Any] | None] = {"the next image": self.next_image}
        if self.depth is not None:
            others["the depth"] = self.depth.depth
        if self.flow is not None:
            others["the flow"] = self.flow.flow
            if self.next_image is None:
                raise InputError(f"{self.name} has flow but no next image; both are needed.")
        if self.normals is not None:
            others["the normals"] = self.normals.normals
        for instance in self.instances:
            others |= {"the visible mask": instance.visible, "the whole mask": instance.amodal}
            others["the whole object"] = instance.appearance
        height, width = self.image.shape[:2]
        for what, pixels in others.items():
            if pixels is not None and pixels.shape[:2] != (height, width):
                raise InputError(
                    f"{self.name}: {what} is {pixels.shape[1]}x{pixels.shape[0]}, but the image is {width}x{height}; "
                    "they need one size."
                )

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that the sample has some truth for."""
        known = {
            "depth": self.depth is not None and bool(self.depth.valid.any()),
            "flow": self.flow is not None and bool(self.flow.valid.any()),
            "amodal": bool(self.instances),
            "normals": self.normals is not None and bool(self.normals.valid.any()),
        }
        return tuple(task for task, is_known in known.items() if is_known)

    @property
    def labels(self) -> NDArray[np.uint16]:
        """(H, W) label image of the visible masks: 0 background, k the k-th instance."""
        labels = np.zeros(self.image.shape[:2], np.uint16)
        for number, instance in enumerate(self.instances, 1):
            labels[instance.visible] = number
        return labels
