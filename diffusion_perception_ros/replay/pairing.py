"""Which two frames make a pair for optical flow."""

from __future__ import annotations

from collections.abc import Iterator

from diffusion_perception_ros.replay.bag import NANOSECONDS, RawMessage
from diffusion_perception_ros.replay.frames import Frame, FrameDecoder


def reason_against(first: Frame, second: Frame, max_frame_gap: float | None) -> str | None:
    """Why two frames make no pair: ``zero_stamp``, ``time_jump``, ``resolution_changed`` or ``frame_gap``, or None."""
    if not first.stamp or not second.stamp:
        return "zero_stamp"
    if first.segment != second.segment:
        return "time_jump"
    if first.image.shape != second.image.shape:
        return "resolution_changed"
    if max_frame_gap is not None and second.stamp - first.stamp > max_frame_gap * NANOSECONDS:
        return "frame_gap"
    return None


class PairTopic:
    """The second frames of pairs, from a topic of their own.

    Args:
        messages: The topic's messages, read independently of the first frames.

    Attributes:
        decoder: Counts what could not be used.
    """

    def __init__(self, messages: Iterator[RawMessage]) -> None:
        self.decoder = FrameDecoder()
        self._frames = self._stamped_frames(messages)
        self._waiting = next(self._frames, None)

    def partner(self, first: Frame, next_first: Frame | None) -> Frame | None:
        """The frame with the stamp of ``first``, else the earliest after it and before ``next_first``."""
        while self._waiting is not None and self._waiting.position < first.position:
            self._waiting = next(self._frames, None)
        second = self._waiting
        if second is None or second.segment != first.segment:
            return None
        if second.stamp != first.stamp and next_first is not None and second.position >= next_first.position:
            return None
        return second

    def _stamped_frames(self, messages: Iterator[RawMessage]) -> Iterator[Frame]:
        for raw in messages:
            frame = self.decoder.decode(raw)
            if frame is not None and frame.stamp:
                yield frame
            elif frame is not None:
                self.decoder.skipped["zero_stamp"] += 1
