"""Camera frames in the order of their stamps; what cannot be used is counted by reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions import (
    ImageError,
    header_from_message,
    image_from_compressed_message,
    image_from_message,
)
from diffusion_perception_ros.conversions.fields import Fields
from diffusion_perception_ros.replay.bag import (
    NANOSECONDS,
    RawMessage,
    UndeserializableError,
    deserialize,
    header_stamp,
)
from diffusion_perception_ros.replay.definitions import COMPRESSED_IMAGE

# A stamp further back than this is no late message: the recording was started anew, or the clock was set.
TIME_JUMP = 1 * NANOSECONDS


@dataclass(frozen=True)
class Frame:
    """One camera frame.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        header: std_msgs/Header as a dict.
        stamp: The header's stamp in ns; 0 if the camera driver left it unset.
        log_time: When the message was recorded, in ns.
        segment: How many times the stamps had jumped back before it.
    """

    image: NDArray[np.uint8]
    header: Fields
    stamp: int
    log_time: int
    segment: int

    @property
    def position(self) -> tuple[int, int]:
        """Orders frames across time jumps."""
        return self.segment, self.stamp


class FrameDecoder:
    """Turns the image messages of one topic into frames.

    Attributes:
        received: Number of messages seen.
        skipped: Messages that gave no frame, by reason: those of ``ImageError``, ``undeserializable`` and
            ``non_monotonic_stamp``.
        time_jumps: How many times the stamps began anew: at the first stamp again or before it, as in a looped bag,
            or more than a second back.
    """

    def __init__(self) -> None:
        self.received = 0
        self.skipped: Counter[str] = Counter()
        self.time_jumps = 0
        self._first_stamp: int | None = None  # since the last time jump
        self._last_stamp: int | None = None

    def decode(self, raw: RawMessage) -> Frame | None:
        """The message's frame, or None (and counted) if it cannot be used."""
        self.received += 1
        if self._is_late(header_stamp(raw)):
            self.skipped["non_monotonic_stamp"] += 1
            return None
        try:
            message = deserialize(raw)
            header = header_from_message(message)
            read = image_from_compressed_message if raw.type == COMPRESSED_IMAGE else image_from_message
            image = read(message)
        except UndeserializableError:
            self.skipped["undeserializable"] += 1
            return None
        except ImageError as error:
            self.skipped[error.reason] += 1
            return None
        stamp = header["stamp"]["sec"] * NANOSECONDS + header["stamp"]["nanosec"]
        if stamp:  # an unset one says nothing about the order
            if self._last_stamp is not None and stamp < self._last_stamp:
                self.time_jumps += 1
                self._first_stamp = None
            self._first_stamp = stamp if self._first_stamp is None else self._first_stamp
            self._last_stamp = stamp
        return Frame(image, header, stamp, raw.log_time, self.time_jumps)

    def _is_late(self, stamp: int | None) -> bool:
        """Whether a frame repeats the last one or came after it though it belongs before it."""
        if not stamp or self._first_stamp is None or self._last_stamp is None:
            return False
        if stamp == self._last_stamp:
            return True
        return max(self._first_stamp + 1, self._last_stamp - TIME_JUMP) <= stamp < self._last_stamp
