"""The contract of decoders: from what the network made of a sample to the image of its answer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from diffusion_perception_ros.model.codec import ImageCodec
from diffusion_perception_ros.model.decoders.stem import ThinStem
from diffusion_perception_ros.model.transformer import DiTMoETransformer

# What the codec's decoder is called where one is chosen: it serves every task.
FULL = "full"


class PerceptionDecoder(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers is untyped
    """Images of answers, at the network's resolution, without the image codec's decoder.

    GenPercept (Xu et al. 2025, arXiv 2403.06090) showed that perception needs no decoder of pictures. A decoder serves
    the tasks that its config names under ``tasks``, with their class labels; the others go through the codec.

    Attributes:
        name: What users write.
        layers: Blocks of the transformer whose tokens it reads after one evaluation; empty for a decoder of latents,
            which come from any number of steps.
        stem: What it puts in the place of the convolutions before the transformer, if anything.
    """

    name: ClassVar[str]
    layers: tuple[int, ...] = ()
    stem: ThinStem | None  # no default: one of the class would hide the module of an instance

    @property
    def tasks(self) -> Mapping[str, Sequence[int]]:
        """Class labels of the tasks that it serves, by task."""
        tasks: Mapping[str, Sequence[int]] = self.config.tasks
        return tasks

    @property
    def labels(self) -> frozenset[int]:
        """Class labels of all tasks that it serves."""
        return frozenset(label for labels in self.tasks.values() for label in labels)

    @staticmethod
    @abstractmethod
    def sizes(transformer: DiTMoETransformer, codec: ImageCodec) -> dict[str, Any]:
        """The arguments of its constructor that follow from what it reads."""

    @abstractmethod
    def forward(self, class_labels: Tensor, answer: Any) -> Tensor:
        """Decode a batch of any of its tasks; never synchronises host and device.

        Args:
            class_labels: (B,) of its labels.
            answer: (B, C, h, w) predicted latents, or the ``Features`` of ``layers``.

        Returns:
            (B, 1 or 3, R, R), nominally in [-1, 1]. A single channel stands for three that are equal.
        """
