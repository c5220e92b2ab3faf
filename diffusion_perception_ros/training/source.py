"""A source of samples: a number gives the same sample whenever it is asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.model.metadata import TargetEncoding
from diffusion_perception_ros.training.frames import Frames

Numbers = NDArray[np.int64]


class Source(ABC):
    """Samples by number. What runs in the background is nothing, unless a source says otherwise."""

    @abstractmethod
    def draw(self, step: int, count: int, rng: np.random.Generator) -> Numbers:
        """(count,) numbers of samples for a step, with replacement."""

    @abstractmethod
    def read(self, numbers: Numbers, encoding: TargetEncoding) -> Frames:
        """The samples of these numbers, as a task of this encoding sees them.

        Raises:
            InputError: A file is damaged.
        """

    def prepare(self, step: int) -> None:  # noqa: B027
        """Make ready what a step needs, and show how far it is."""

    def refresh(self, step: int) -> None:  # noqa: B027
        """Begin with what later steps need, and drop what no step from this one on needs."""

    def close(self) -> None:  # noqa: B027
        """End what runs in the background."""
