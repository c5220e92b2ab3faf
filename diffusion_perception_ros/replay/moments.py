"""What a bag says about one frame after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions import ImageError, labels_from_message
from diffusion_perception_ros.frames.pairing import reason_against
from diffusion_perception_ros.replay.bag import RawMessage, UndeserializableError, deserialize
from diffusion_perception_ros.replay.camera_info import CameraInfos
from diffusion_perception_ros.replay.frames import Frame, FrameDecoder
from diffusion_perception_ros.replay.masks import LabelImages
from diffusion_perception_ros.replay.pairing import PairTopic
from diffusion_perception_ros.replay.reader import BagReader
from diffusion_perception_ros.replay.settings import ReplaySettings
from diffusion_perception_ros.replay.topics import SourceTopics

# Copies of the input wait for the results that belong before them in time, but not without limit.
_WAITING_COPIES = 64


@dataclass(frozen=True, eq=False)
class Moment:
    """One frame and what belongs to it.

    Attributes:
        frame: The frame.
        second: The frame that flow goes to, where flow is wanted and possible.
        labels: (H, W) label image of its visible masks.
        camera_info: Its calibration.
        received: Image messages read up to here.
        skipped: Messages skipped up to here, by reason.
    """

    frame: Frame
    second: Frame | None
    labels: NDArray[np.uint8] | NDArray[np.uint16] | None
    camera_info: Any | None
    received: int
    skipped: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Step:
    """As far as one message brings a replay.

    Attributes:
        moment: What can be predicted now.
        copies: Messages of the input, whose place in the output is behind the moment.
        done: How many image messages are done with after that.
    """

    moment: Moment | None
    copies: list[RawMessage]
    done: int


class MomentReader:
    """One pass over a bag. Holds two frames at a time, however long the bag is.

    Args:
        bag: The bag.
        topics: What to read.
        settings: How frames make pairs, and whether the input is copied.
        tasks: Names of the tasks that are run.

    Attributes:
        decoder: Counts the frames read, and the messages skipped.
        omitted: Parts of results that cannot be made, by reason.
    """

    def __init__(self, bag: BagReader, topics: SourceTopics, settings: ReplaySettings, tasks: tuple[str, ...]) -> None:
        self._bag, self._topics, self._settings, self._tasks = bag, topics, settings, tasks
        self._camera_infos = CameraInfos()
        self._labels: LabelImages | None = None
        self._partners: PairTopic | None = None
        self._bad_masks: Counter[str] = Counter()
        self.decoder = FrameDecoder()
        self.omitted: Counter[str] = Counter()

    @property
    def skipped(self) -> Counter[str]:
        """Messages that could not be used, by reason; those of the label images and second frames by prefix."""
        skipped = self.decoder.skipped + self._bad_masks
        if self._partners:
            skipped += Counter({f"pair_{reason}": n for reason, n in self._partners.decoder.skipped.items()})
        return skipped

    def steps(self) -> Iterator[Step]:
        """All frames in order, once; what is opened for it is closed in the thread that opened it."""
        with ExitStack() as opened:
            if self._topics.masks and "amodal" in self._tasks:
                self._labels = LabelImages(self._bag, self._topics.masks)
                opened.callback(self._labels.close)
                self._bad_masks["masks_undeserializable"] += self._labels.unreadable
            if self._topics.pair and "flow" in self._tasks:
                self._partners = PairTopic(self._bag.messages([self._topics.pair]))
                opened.callback(self._partners.close)
            yield from self._steps()
            if self._labels:
                self.omitted += self._labels.unused

    def _steps(self) -> Iterator[Step]:
        wanted = {self._topics.image, self._topics.camera_info} - {None}
        if self._settings.include_input:
            wanted |= set(self._topics.all)
        copies: list[RawMessage] = []
        waiting: Frame | None = None
        for raw in self._bag.messages({topic for topic in wanted if topic}):
            if self._settings.include_input:
                copies.append(raw)
            if raw.topic == self._topics.camera_info:
                self._camera_infos.add(raw)
            frame = self.decoder.decode(raw) if raw.topic == self._topics.image else None
            moment = None
            if frame is not None:
                moment = self._moment(waiting, frame) if waiting is not None else None
                waiting = frame
            is_due = frame is not None or len(copies) > _WAITING_COPIES
            if is_due or raw.topic == self._topics.image:
                yield Step(moment, copies if is_due else [], self.decoder.received - (waiting is not None))
            if is_due:
                copies = []
        moment = self._moment(waiting, None) if waiting is not None else None
        yield Step(moment, copies, self.decoder.received)

    def _moment(self, frame: Frame, following: Frame | None) -> Moment:
        """All about ``frame``; ``following`` is the next good frame of the topic."""
        second = self._second(frame, following) if "flow" in self._tasks else None
        labels = self._find_labels(frame)
        camera_info = self._camera_infos.find(frame)
        return Moment(frame, second, labels, camera_info, self.decoder.received, self.skipped)

    def _second(self, frame: Frame, following: Frame | None) -> Frame | None:
        if self._partners:
            second = self._partners.partner(frame, following)
            reason = "no_partner" if second is None else None
        else:
            second, reason = following, None
        if second is not None:
            reason = reason_against(frame, second, self._settings.max_frame_gap)
        if reason:
            self.omitted[reason] += 1
            return None
        return second

    def _find_labels(self, frame: Frame) -> NDArray[np.uint8] | NDArray[np.uint16] | None:
        raw = self._labels.find(frame) if self._labels else None
        if raw is None:
            return None
        try:
            labels = labels_from_message(deserialize(raw))
        except UndeserializableError:
            self._bad_masks["masks_undeserializable"] += 1
            return None
        except ImageError as error:
            self._bad_masks[f"masks_{error.reason}"] += 1
            return None
        if labels.shape != frame.image.shape[:2]:
            self._bad_masks["masks_size_mismatch"] += 1
            return None
        return labels
