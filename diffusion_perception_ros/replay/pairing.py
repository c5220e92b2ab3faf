"""The second frames of pairs, where they were recorded on a topic of their own."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from diffusion_perception_ros.replay.bag import RawMessage
from diffusion_perception_ros.replay.frames import Frame, FrameDecoder


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

    def close(self) -> None:
        """Stop reading; in the thread that read."""
        self._frames.close()

    def _stamped_frames(self, messages: Iterator[RawMessage]) -> Generator[Frame, None, None]:
        for raw in messages:
            frame = self.decoder.decode(raw)
            if frame is not None and frame.stamp:
                yield frame
            elif frame is not None:
                self.decoder.skipped["zero_stamp"] += 1
