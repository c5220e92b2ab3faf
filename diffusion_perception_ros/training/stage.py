"""What a run trains: the loop knows how to take steps, a stage what they are about."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from diffusion_perception_ros.evaluation.sheets.drawing import Picture
from diffusion_perception_ros.training.batches import Questions
from diffusion_perception_ros.training.cache import VALIDATION_SEED, render_records
from diffusion_perception_ros.training.config import TrainingConfig

Network = TypeVar("Network", bound=nn.Module)
# Network, batch and source of noise to what is minimised, and its parts without their weights.
LossFunction = Callable[[nn.Module, Sequence[Questions], np.random.Generator], tuple[Tensor, dict[str, Tensor]]]


class Stage(ABC, Generic[Network]):
    """What is trained, how it is judged and what is handed on.

    Args:
        config: Of the run.

    Attributes:
        network: As training starts; training changes it in place.
    """

    network: Network

    def __init__(self, config: TrainingConfig) -> None:
        self._resolution = config.resolution
        self._validation_scenes = config.report.validation_scenes
        self._normals = config.needs("normals")

    @cached_property
    def held_out(self) -> NDArray[Any]:
        """Records of the scenes that validation and sheets are about; no step draws them."""
        seeds = range(VALIDATION_SEED, VALIDATION_SEED + self._validation_scenes)
        return render_records(seeds, self._resolution, self._normals)

    @abstractmethod
    def sample_flops(self) -> int:
        """Floating-point operations of the network's forward pass over one sample, see ``compute``."""

    @abstractmethod
    def losses(self) -> LossFunction:
        """What a batch costs the network."""

    @abstractmethod
    def validate(self, average: Network) -> tuple[float, dict[str, float]]:
        """How far the averaged weights are from perfect, to choose the best by, and all metrics."""

    @abstractmethod
    def draw(self, average: Network, step: int) -> Picture:
        """A sheet of what the averaged weights make of held-out scenes after so many steps."""

    @abstractmethod
    def save(self, average: Network, folder: Path) -> None:
        """Write what users load, in half precision."""
