"""One camera frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions.fields import Fields

NANOSECONDS = 10**9


@dataclass(frozen=True, eq=False)
class Frame:
    """One camera frame.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        header: std_msgs/Header as a dict.
        stamp: The header's stamp in ns; 0 if the camera driver left it unset.
        segment: How many times the stamps had jumped back before it.
    """

    image: NDArray[np.uint8]
    header: Fields
    stamp: int
    segment: int

    @property
    def position(self) -> tuple[int, int]:
        """Orders frames across time jumps."""
        return self.segment, self.stamp


def stamp_of(header: Fields) -> int:
    """The stamp in ns of std_msgs/Header as a dict."""
    return int(header["stamp"]["sec"]) * NANOSECONDS + int(header["stamp"]["nanosec"])
