"""What arrives becomes work: messages of a live stream turn into frames, pairs and frames with masks."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions import ImageError, header_from_message, labels_from_message
from diffusion_perception_ros.frames.frame import Frame, stamp_of
from diffusion_perception_ros.frames.history import StampedHistory
from diffusion_perception_ros.frames.instances import Labels
from diffusion_perception_ros.frames.mailbox import Mailbox
from diffusion_perception_ros.frames.order import StampOrder

_MAX_HISTORY_BYTES = 256 << 20
_PENDING_LABELS = 4  # detectors may be faster than an image transport, but not by much
_REFERENCES = 10
_CAMERA_INFOS = 64


@dataclass(frozen=True, eq=False)
class LiveFrame(Frame):
    """One camera frame of a live stream.

    Attributes:
        convert_ms: How long the message took to become an image.
    """

    convert_ms: float


class Pair(NamedTuple):
    """Two frames for flow."""

    first: LiveFrame
    second: LiveFrame


class Masked(NamedTuple):
    """A frame and the label image of its visible masks."""

    frame: LiveFrame
    labels: Labels


class Intake:
    """Takes messages from any thread and puts the newest frame, pair and frame with masks into a mailbox.

    Args:
        mailbox: Its slots are ``frame`` (a ``LiveFrame``), ``pair`` and ``masks``.
        read: Turns an image message into (H, W, 3) uint8 RGB.
        history: How many frames wait for their masks; 0 if nobody wants masks.
        pair_consecutive: Whether consecutive frames make pairs; else they come through ``add_pair``.
        on_restart: Called when time began anew.

    Attributes:
        received: Image messages seen.
        dropped: Messages that gave no frame, by reason.
        generation: How many times everything was forgotten.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        read: Callable[[Any], NDArray[np.uint8]],
        history: int = 0,
        pair_consecutive: bool = True,
        on_restart: Callable[[], None] = lambda: None,
    ) -> None:
        self._mailbox, self._read, self._on_restart = mailbox, read, on_restart
        self._pair_consecutive = pair_consecutive
        self._lock = threading.RLock()
        self.received = 0
        self.dropped: Counter[str] = Counter()
        self.generation = 0
        self._history: StampedHistory[LiveFrame] | None = None
        if history:
            self._history = StampedHistory(history, lambda frame: frame.image.nbytes, _MAX_HISTORY_BYTES)
        self._camera_infos: StampedHistory[Any] = StampedHistory(_CAMERA_INFOS)
        self._order, self._next_order = StampOrder(), StampOrder()
        self._previous: LiveFrame | None = None
        self._forget()

    def add_image(self, message: Any) -> LiveFrame | None:
        """Take an image message; the frame if it could be used, else None (and counted)."""
        with self._lock:
            self.received += 1
            frame = self._frame(message, self._order, self._next_order, "")
            if frame is None:
                return None
            items: dict[str, Any] = {"frame": frame}
            if self._pair_consecutive and self._previous is not None:
                items["pair"] = Pair(self._previous, frame)
            self._previous = frame
            if self._history is not None and frame.stamp:
                self._history.add(frame.stamp, frame)
                labels = self._pending_labels.pop(frame.stamp)
                masked = None if labels is None else self._masked(frame, labels)
                items |= {} if masked is None else {"masks": masked}
            self._mailbox.post(**items)
            return frame

    def add_next_image(self, message: Any) -> LiveFrame | None:
        """Take an image message of the topic of second frames."""
        with self._lock:
            return self._frame(message, self._next_order, self._order, "next_")

    def add_pair(self, first: LiveFrame, second: LiveFrame) -> None:
        """Take two frames that were found to belong together by their stamps."""
        self._mailbox.post(pair=Pair(first, replace(second, segment=first.segment)))

    def add_labels(self, message: Any) -> None:
        """Take a label image of visible masks, earlier or later than its frame."""
        with self._lock:
            if self._history is None:
                return
            try:
                stamp = stamp_of(header_from_message(message))
                labels = labels_from_message(message)
            except ImageError as error:
                self.dropped[f"masks_{error.reason}"] += 1
                return
            frame = self._history.at(stamp)
            if frame is not None:
                masked = self._masked(frame, labels)
                if masked is not None:
                    self._mailbox.post(masks=masked)
                return
            if len(self._pending_labels) == _PENDING_LABELS:
                self.dropped["masks_without_frame"] += 1
            self._pending_labels.add(stamp, labels)

    def add_camera_info(self, message: Any) -> None:
        """Take a calibration."""
        self._keep(self._camera_infos, message, "camera_info_")

    def add_reference(self, message: Any) -> None:
        """Take a metric depth image; it is read only when it is needed."""
        self._keep(self._references, message, "reference_")

    def camera_info(self, stamp: int) -> Any | None:
        """The calibration message with the stamp of a frame, else the last one."""
        with self._lock:
            exact = self._camera_infos.at(stamp)
            return self._camera_infos.last if exact is None else exact

    def reference(self, stamp: int) -> Any | None:
        """The metric depth message closest to a stamp."""
        with self._lock:
            return self._references.nearest(stamp)

    def drop(self, reason: str) -> None:
        """Count a frame that was given up."""
        with self._lock:
            self.dropped[reason] += 1

    @property
    def drops(self) -> Counter[str]:
        """All that was dropped, by reason; ``superseded`` frames gave way to newer ones before their turn."""
        with self._lock:
            drops = Counter(self.dropped)
        names = {"frame": "superseded", "masks": "masks_superseded"}
        if not self._pair_consecutive:
            names["pair"] = "pair_superseded"
        for slot, count in self._mailbox.replaced.items():
            if slot in names:
                drops[names[slot]] += count
        return drops

    def restart(self) -> None:
        """Forget the past: no pair, masks or reference from before goes with a frame from now on."""
        with self._lock:
            self._order.restart()
            self._next_order.restart()
            self._forget()

    def time_jumped(self, now: int) -> None:
        """The clock jumped back to ``now`` (ns): restart, unless the frames' stamps told so already.

        The newest frame is then not of the future. In a looped bag it may well come before the clock.
        """
        with self._lock:
            if self._previous is None or not 0 < self._previous.stamp <= now:
                self.restart()

    def _forget(self) -> None:
        self.generation += 1
        self._previous = None
        self._newest_masked = (-1, -1)
        self._pending_labels: StampedHistory[Labels] = StampedHistory(_PENDING_LABELS)
        self._references: StampedHistory[Any] = StampedHistory(_REFERENCES)
        if self._history is not None:
            self._history.clear()
        if "frame" in self._mailbox.clear():
            self.dropped["time_jump"] += 1
        self._on_restart()

    def _frame(self, message: Any, order: StampOrder, other: StampOrder, prefix: str) -> LiveFrame | None:
        began = time.perf_counter()
        try:
            header = header_from_message(message)
            stamp = stamp_of(header)
            if order.is_late(stamp):
                self.dropped[f"{prefix}non_monotonic_stamp"] += 1
                return None
            if stamp < 0:
                raise ImageError("malformed_message", f"the stamp {stamp} ns is negative")
            image = self._read(message)
        except ImageError as error:
            self.dropped[prefix + error.reason] += 1
            return None
        jumps = order.time_jumps
        segment = order.advance(stamp)
        if segment != jumps:
            other.restart()  # one jump is not to be seen twice
            self._forget()
        return LiveFrame(image, header, stamp, segment, 1e3 * (time.perf_counter() - began))

    def _masked(self, frame: LiveFrame, labels: Labels) -> Masked | None:
        if labels.shape != frame.image.shape[:2]:
            self.dropped["masks_size_mismatch"] += 1
            return None
        if frame.position < self._newest_masked:
            self.dropped["masks_out_of_order"] += 1
            return None
        self._newest_masked = frame.position
        return Masked(frame, labels)

    def _keep(self, history: StampedHistory[Any], message: Any, prefix: str) -> None:
        with self._lock:
            try:
                history.add(stamp_of(header_from_message(message)), message)
            except ImageError as error:
                self.dropped[prefix + error.reason] += 1
