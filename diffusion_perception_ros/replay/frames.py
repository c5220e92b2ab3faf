"""Camera frames in the order of their stamps; what cannot be used is counted by reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from diffusion_perception_ros.conversions import (
    ImageError,
    header_from_message,
    image_from_compressed_message,
    image_from_message,
)
from diffusion_perception_ros.frames import frame
from diffusion_perception_ros.frames.order import StampOrder
from diffusion_perception_ros.replay.bag import RawMessage, UndeserializableError, deserialize, header_stamp
from diffusion_perception_ros.replay.definitions import COMPRESSED_IMAGE


@dataclass(frozen=True, eq=False)
class Frame(frame.Frame):
    """One recorded camera frame.

    Attributes:
        log_time: When the message was recorded, in ns.
    """

    log_time: int


class FrameDecoder:
    """Turns the image messages of one topic into frames.

    Attributes:
        received: Number of messages seen.
        skipped: Messages that gave no frame, by reason: those of ``ImageError``, ``undeserializable`` and
            ``non_monotonic_stamp``.
    """

    def __init__(self) -> None:
        self.received = 0
        self.skipped: Counter[str] = Counter()
        self._order = StampOrder()

    @property
    def time_jumps(self) -> int:
        """How many times the stamps began anew."""
        return self._order.time_jumps

    def decode(self, raw: RawMessage) -> Frame | None:
        """The message's frame, or None (and counted) if it cannot be used."""
        self.received += 1
        if self._order.is_late(header_stamp(raw)):
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
        stamp = frame.stamp_of(header)
        return Frame(image, header, stamp, self._order.advance(stamp), raw.log_time)
