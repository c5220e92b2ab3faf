"""`image` and `image_next` joined by their stamps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import message_filters

from diffusion_perception_ros.frames.frame import stamp_of
from diffusion_perception_ros.frames.history import StampedHistory
from diffusion_perception_ros.frames.intake import LiveFrame

Pairing = Callable[[LiveFrame, LiveFrame], None]


class Synchronizer:
    """Joins two streams with message_filters, which sees messages; what is joined are their frames.

    message_filters calls back while it holds its lock and never releases it if that raises, and it matches nothing
    more after stamps have jumped back. So the callback does nothing but hand two frames on, and ``restart`` builds the
    filters anew.

    Args:
        queue_size: Messages of each stream that wait for their partner.
        slop: Stamps may differ by less than this, in seconds; 0 for equal ones.
        on_pair: Called with the two frames.
        on_error: Called with what went wrong in it.
    """

    def __init__(self, queue_size: int, slop: float, on_pair: Pairing, on_error: Callable[[Exception], None]) -> None:
        self._queue_size, self._slop, self._on_pair, self._on_error = queue_size, slop, on_pair, on_error
        self.restart()

    def restart(self) -> None:
        """Forget what waits."""
        self._frames: tuple[StampedHistory[LiveFrame], ...] = tuple(StampedHistory(self._queue_size) for _ in range(2))
        self._inputs = (message_filters.SimpleFilter(), message_filters.SimpleFilter())
        if self._slop > 0:
            joined = message_filters.ApproximateTimeSynchronizer(self._inputs, self._queue_size, self._slop)
        else:
            joined = message_filters.TimeSynchronizer(self._inputs, self._queue_size)
        joined.registerCallback(self._joined)
        self._synchronizer = joined

    def add(self, stream: int, message: Any, frame: LiveFrame) -> None:
        """Take a message of stream 0 (``image``) or 1 (``image_next``) and its frame.

        A frame without a stamp is passed over: it has no partner.
        """
        if frame.stamp:
            self._frames[stream].add(frame.stamp, frame)
            self._inputs[stream].signalMessage(message)

    def _joined(self, *messages: Any) -> None:
        try:
            frames = [history.at(_stamp(message)) for history, message in zip(self._frames, messages, strict=True)]
            if frames[0] is not None and frames[1] is not None:
                self._on_pair(frames[0], frames[1])
        except Exception as error:  # the lock of message_filters would stay held for ever
            self._on_error(error)


def _stamp(message: Any) -> int:
    stamp = message.header.stamp
    return stamp_of({"stamp": {"sec": stamp.sec, "nanosec": stamp.nanosec}})
