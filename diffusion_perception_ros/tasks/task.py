"""The contract of a task: which pictures it is asked with, and what its answer means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.metadata import TargetEncoding
from diffusion_perception_ros.tasks.geometry import Geometry, Region
from diffusion_perception_ros.tasks.target import Target, Truth


@dataclass(frozen=True)
class Picture:
    """One picture as the network sees it; equal pictures are encoded once, whichever tasks use them.

    Attributes:
        source: ``image``, ``next_image``, ``visible_mask`` (of ``instance``, -1 and 1) or ``ones``.
        interpolation: How it is resized to the network's resolution.
        instance: The label that a ``visible_mask`` is about.
        mirrored: Flipped left to right.
        region: What of it the network sees; all of it where it is None.
    """

    source: str
    interpolation: str = "bilinear"
    instance: int = 0
    mirrored: bool = False
    region: Region | None = None


@dataclass(frozen=True)
class DecodeContext:
    """What a task needs to turn its images into physical units.

    Attributes:
        encoding: The checkpoint's encoding of this task.
        geometry: From the network's square back to the input's pixels.
        flow_reference_size: See ``CheckpointMetadata``.
        aligner: Name of the ensemble aligner.
        visible_masks: (H, W) bool by instance id.
        regions: What each instance was asked about, see ``Task.regions``.
    """

    encoding: TargetEncoding
    geometry: Geometry
    flow_reference_size: tuple[int, int]
    aligner: str
    visible_masks: Mapping[int, NDArray[np.bool_]]
    regions: Mapping[int, Region] = field(default_factory=dict)


class Task(ABC):
    """One thing the generalist can be asked.

    A further task is one file with a subclass, one ``register`` call, and labels from 1005 on.

    Attributes:
        name: What users write.
        released: The released generalist's encoding, None for a task it was not trained for.
        kinds: The encodings that ``decode`` knows, with the names of the parameters each needs.
        learned_from: The encodings that ``encode_target`` knows, with the fields of ``Truth`` that each is made from.
        single_channel: The encodings whose images have three equal channels, so that one is enough to decode.
        num_labels: Class labels, and so images, of one answer, of the encodings with more than one.
        requires: Arguments of the pipeline's call that the task cannot do without.
    """

    name: ClassVar[str]
    released: ClassVar[TargetEncoding | None] = None
    kinds: ClassVar[Mapping[str, tuple[str, ...]]]
    learned_from: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    single_channel: ClassVar[tuple[str, ...]] = ()
    num_labels: ClassVar[Mapping[str, int]] = {}
    requires: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def prompts(self, encoding: TargetEncoding, instances: Sequence[int]) -> list[Picture]:
        """The prompt picture of each answer wanted: one, or one per instance."""

    def regions(self, encoding: TargetEncoding, visible_masks: Mapping[int, NDArray[np.bool_]]) -> Mapping[int, Region]:
        """What of the image the network sees when it is asked about an instance; all of it where there is none."""
        return {}

    @abstractmethod
    def decode(self, images: Tensor, context: DecodeContext) -> dict[str, Any]:
        """Answers in physical units.

        Args:
            images: (members, prompts, labels, 3, R, R) float32, nominally in [-1, 1].
            context: Encoding, geometry and masks.

        Returns:
            Fields of ``PerceptionOutput`` by name; names it does not have go to its ``extra``. Tensors become arrays:
            those of all tasks leave the device together.
        """

    def encode_target(self, truth: Truth, encoding: TargetEncoding, flow_reference_size: tuple[int, int]) -> Target:
        """The answers that `decode` turns into the truth.

        Args:
            truth: Of B frames.
            encoding: The checkpoint's encoding of this task.
            flow_reference_size: See ``CheckpointMetadata``.

        Raises:
            InputError: This encoding cannot be made from such a truth.
        """
        raise InputError(f"task {self.name!r} has no training targets of the kind {encoding.kind!r}.")

    def unmirror(self, images: Tensor) -> Tensor:
        """Answers to mirrored pictures, (prompts, labels, 3, R, R), as if they had not been mirrored."""
        return images.flip(-1)
