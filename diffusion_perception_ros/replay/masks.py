"""The label image of each frame, however late it was recorded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from diffusion_perception_ros.replay.bag import RawMessage, header_stamp
from diffusion_perception_ros.replay.frames import Frame
from diffusion_perception_ros.replay.reader import BagReader

# Label images that were passed on the way to a later one, kept for detectors that answer out of order.
_KEPT = 32


class LabelImages:
    """Finds the label image with exactly a frame's stamp.

    A first pass over the topic notes the stamps alone; a second one follows the frames, reading ahead only where a
    frame is known to have a label image. Nothing is held but the few label images passed over.

    Attributes:
        count: Number of label images in the bag.
        used: How many were asked for by a frame.
    """

    def __init__(self, bag: BagReader, topic: str) -> None:
        self._places: dict[int, list[tuple[int, int]]] = {}
        self.count = 0
        self.used = 0
        for place, raw in enumerate(bag.messages([topic])):
            self.count += 1
            stamp = header_stamp(raw)
            if stamp is not None:
                self._places.setdefault(stamp, []).append((raw.log_time, place))
        self._ahead: Iterator[tuple[int, RawMessage]] = enumerate(bag.messages([topic]))
        self._passed: OrderedDict[int, RawMessage] = OrderedDict()

    def find(self, frame: Frame) -> RawMessage | None:
        """The label image of this frame; where a looped bag has several, the one recorded closest to it."""
        places = self._places.get(frame.stamp)
        if not places:
            return None
        _, wanted = min((abs(log_time - frame.log_time), place) for log_time, place in places)
        raw = self._passed.pop(wanted, None) or self._advance_to(wanted)
        self.used += raw is not None
        return raw

    def _advance_to(self, wanted: int) -> RawMessage | None:
        for place, raw in self._ahead:
            if place == wanted:
                return raw
            self._passed[place] = raw
            if len(self._passed) > _KEPT:
                self._passed.popitem(last=False)
            if place > wanted:
                break
        return None
