"""The calibration that goes with each frame."""

from __future__ import annotations

from collections import deque
from typing import Any

from diffusion_perception_ros.replay.bag import RawMessage, UndeserializableError, deserialize, header_stamp
from diffusion_perception_ros.replay.binding import bind
from diffusion_perception_ros.replay.frames import Frame

# Enough for a calibration that is recorded far more often than the frames.
_KEPT = 256


class CameraInfos:
    """The latest camera infos of a stream."""

    def __init__(self) -> None:
        self._latest: deque[RawMessage] = deque(maxlen=_KEPT)

    def add(self, raw: RawMessage) -> None:
        """Take note of a camera info."""
        self._latest.append(raw)

    def find(self, frame: Frame) -> Any | None:
        """The frame's camera info with the frame's header; None if there is none or it is unreadable.

        That is the one with the frame's stamp, else the last one recorded before the frame, else the first one after
        it: a calibration seldom changes.
        """
        if not self._latest:
            return None
        before = [raw for raw in self._latest if raw.log_time <= frame.log_time]
        same = [raw for raw in self._latest if header_stamp(raw) == frame.stamp]
        raw = (same or before or [self._latest[0]])[-1]
        try:
            message = deserialize(raw)
        except UndeserializableError:
            return None
        message.header = bind("std_msgs/msg/Header", frame.header)
        return message
