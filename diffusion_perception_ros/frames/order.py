"""The stamps of one stream: which frame came late, and when time began anew."""

from __future__ import annotations

from diffusion_perception_ros.frames.frame import NANOSECONDS

# A stamp further back than this is no late message: the recording was started anew, or the clock was set.
TIME_JUMP = 1 * NANOSECONDS


class StampOrder:
    """Follows the stamps of one stream. Stamps are in ns; 0 is an unset one, which says nothing about the order.

    Attributes:
        time_jumps: How many times the stamps began anew: at the first stamp again or before it, as in a looped bag,
            or more than a second back.
    """

    def __init__(self) -> None:
        self.time_jumps = 0
        self._first: int | None = None  # since the last time jump
        self._last: int | None = None

    def is_late(self, stamp: int | None) -> bool:
        """Whether a frame repeats the last one or came after it though it belongs before it."""
        if not stamp or self._first is None or self._last is None:
            return False
        if stamp == self._last:
            return True
        return max(self._first + 1, self._last - TIME_JUMP) <= stamp < self._last

    def advance(self, stamp: int) -> int:
        """Take note of a frame that is not late.

        Returns:
            Its segment: the number of time jumps up to here.
        """
        if stamp:
            if self._last is not None and stamp < self._last:
                self.time_jumps += 1
                self._first = None
            self._first = stamp if self._first is None else self._first
            self._last = stamp
        return self.time_jumps

    def restart(self) -> None:
        """Time begins anew with the next frame, whatever its stamp."""
        if self._last is not None:
            self.time_jumps += 1
        self._first = self._last = None
