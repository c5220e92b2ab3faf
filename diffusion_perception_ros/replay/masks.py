"""The label image of each frame, however late it was recorded."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Generator
from typing import NamedTuple

from diffusion_perception_ros.replay.bag import RawMessage, header_stamp
from diffusion_perception_ros.replay.frames import Frame
from diffusion_perception_ros.replay.reader import BagReader

# Label images that were passed on the way to a later one, kept for detectors that answer out of order.
_KEPT = 32


class _Place(NamedTuple):
    """Tells the messages of a topic apart, from wherever one starts to read: the n-th one with a log time."""

    log_time: int
    repetition: int


class LabelImages:
    """Finds the label image with exactly a frame's stamp.

    A first pass over the topic notes the stamps alone; a second one follows the frames, reading ahead only where a
    frame is known to have a label image. Nothing is held but the last few label images passed over; one that is not
    among them any more is read again.

    Attributes:
        unreadable: Number of messages without a readable stamp.
    """

    def __init__(self, bag: BagReader, topic: str) -> None:
        self._bag, self._topic = bag, topic
        self._places: dict[int, list[_Place]] = {}
        self._order: dict[_Place, int] = {}
        self._used: set[_Place] = set()
        self.unreadable = 0
        for place, raw in self._read(None):
            self._order[place] = len(self._order)
            stamp = header_stamp(raw)
            if stamp is None:
                self.unreadable += 1
            else:
                self._places.setdefault(stamp, []).append(place)
        self._ahead = self._read(None)
        self._position = -1
        self._passed: OrderedDict[_Place, RawMessage] = OrderedDict()

    def find(self, frame: Frame) -> RawMessage | None:
        """The label image of this frame; where several have its stamp, the one recorded closest to it."""
        places = self._places.get(frame.stamp)
        if not places:
            return None
        wanted = min(places, key=lambda place: abs(place.log_time - frame.log_time))
        self._used.add(wanted)
        raw = self._passed.pop(wanted, None)
        if raw is None and self._order[wanted] > self._position:
            raw = self._advance_to(wanted)
        if raw is None:
            self._ahead = self._read(wanted.log_time)
            raw = self._advance_to(wanted)
        return raw

    @property
    def unused(self) -> Counter[str]:
        """Label images that no frame asked for: ``masks_duplicate`` of one that was, or ``masks_without_frame``."""
        counts: Counter[str] = Counter()
        for places in self._places.values():
            used = len(self._used.intersection(places))
            counts["masks_duplicate" if used else "masks_without_frame"] += len(places) - used
        return +counts

    def close(self) -> None:
        """Stop reading; in the thread that read."""
        self._ahead.close()

    def _advance_to(self, wanted: _Place) -> RawMessage | None:
        for place, raw in self._ahead:
            self._position = self._order.get(place, self._position)
            if place == wanted:
                return raw
            self._passed[place] = raw
            if len(self._passed) > _KEPT:
                self._passed.popitem(last=False)
        return None

    def _read(self, start: int | None) -> Generator[tuple[_Place, RawMessage], None, None]:
        seen: Counter[int] = Counter()
        for raw in self._bag.messages([self._topic], start):
            yield _Place(raw.log_time, seen[raw.log_time]), raw
            seen[raw.log_time] += 1
