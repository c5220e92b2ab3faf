"""Bags that hold the truth beside the images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_perception_ros.conversions import labels_from_message
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.evaluation.datasets.bag_topics import BagTopics, choose_topics
from diffusion_perception_ros.evaluation.datasets.dataset import Dataset
from diffusion_perception_ros.evaluation.datasets.messages import (
    amodal_masks_from_message,
    depth_from_message,
    flow_from_message,
    normals_from_message,
)
from diffusion_perception_ros.evaluation.datasets.scenes import FARTHEST, NEAREST, SEQUENCE_FRAMES
from diffusion_perception_ros.evaluation.samples import DepthTruth, FlowTruth, InstanceTruth, NormalTruth, Sample
from diffusion_perception_ros.frames.pairing import reason_against
from diffusion_perception_ros.replay.bag import NANOSECONDS, UndeserializableError, deserialize, header_stamp
from diffusion_perception_ros.replay.definitions import OPTICAL_FLOW
from diffusion_perception_ros.replay.frames import Frame, FrameDecoder
from diffusion_perception_ros.replay.masks import LabelImages
from diffusion_perception_ros.replay.reader import BagReader

# An object is worth asking for from this share of the image on, as in the pairs of `scenes`.
_VISIBLE_ENOUGH = 0.004


@dataclass(frozen=True)
class _Truth:
    """The messages that have a frame's stamp."""

    depth: Any = None
    flow: Any = None
    visible_masks: Any = None
    amodal: Any = None
    normals: Any = None


@dataclass(frozen=True, kw_only=True)
class BagSample(Sample):
    """A sample with what finds other messages about it.

    Attributes:
        frame: The camera's frame that it is.
        next_stamp: Of the frame that the true flow leads to, in ns; None where flow is unknown.
        ids: Of the instances, as in the label image.
    """

    frame: Frame
    next_stamp: int | None
    ids: tuple[int, ...]


class Bag(Dataset):
    """The frames that have a truth with their own stamp.

    Depth counts between 1 mm and 80 m; flow goes to the camera's next frame; objects count if enough of them is seen.

    Args:
        path: A rosbag2 folder, or a ``.mcap`` or ``.db3`` file.
        topics: Which topics to read; what is None is found by type and encoding.
        samples: How many frames, from the beginning; None for all.
        sequences: At most how many runs of frames are for flicker.

    Raises:
        InputError: ``path`` is no bag, a topic is missing or not evident, or no frame has a truth.
    """

    def __init__(self, path: Path, topics: BagTopics, samples: int | None = None, sequences: int = 0) -> None:
        self._path = path
        self._sequences = sequences
        with BagReader(path) as bag:
            self._topics = choose_topics(bag, topics)
            if not self._topics.truths.keys() - {"visible_masks"}:
                raise InputError(f"{path} has no ground truth: neither depth nor flow nor amodal masks nor normals.")
            flow = self._topics.truths.get("flow")
            self._flow_type = bag.topics[flow].type if flow is not None else None
            frames = [header_stamp(raw) for raw in bag.messages([self._topics.image])]
            known = {header_stamp(raw) for raw in bag.messages(set(self._topics.truths.values()))}
        usable = sum(stamp in known for stamp in frames)
        self.settings = {
            "dataset": "bag",
            "path": str(path),
            "topics": {"image": self._topics.image, **self._topics.truths},
            "depth_range_m": [NEAREST, FARTHEST],
        }
        if not usable:
            raise InputError(
                f"none of the {len(frames)} frames on {self._topics.image} has the stamp of a ground truth message."
            )
        self._samples = usable if samples is None else min(samples, usable)

    def __len__(self) -> int:
        return self._samples

    def __iter__(self) -> Iterator[BagSample]:
        count = 0
        for sample in self._read():
            if count == self._samples:
                return
            if sample.depth or sample.flow or sample.instances or sample.normals:
                count += 1
                yield sample

    def sequences(self) -> Iterator[Sequence[BagSample]]:
        """Runs of consecutive frames with depth and flow."""
        count, run = 0, list[BagSample]()
        for sample in self:
            if count == self._sequences:
                return
            if run and run[-1].next_image is not sample.image:
                run = []
            if sample.depth is not None:
                run.append(sample)
            if len(run) == SEQUENCE_FRAMES or (len(run) > 1 and sample.flow is None):
                count += 1
                yield run
            if sample.depth is None or sample.flow is None or len(run) == SEQUENCE_FRAMES:
                run = []

    def _read(self) -> Iterator[BagSample]:
        """Every frame, with or without a truth."""
        with BagReader(self._path) as bag:
            truths = {role: LabelImages(bag, topic) for role, topic in self._topics.truths.items()}
            decoder = FrameDecoder()
            last: tuple[Frame, _Truth] | None = None
            for raw in bag.messages([self._topics.image]):
                frame = decoder.decode(raw)
                if frame is None:
                    continue
                if last is not None:
                    yield self._sample(*last, frame)
                messages = {role: truth.find(frame) for role, truth in truths.items()}
                try:
                    found = {role: deserialize(message) for role, message in messages.items() if message is not None}
                except UndeserializableError as error:
                    raise InputError(f"{_name(frame)}: a ground truth message is damaged ({error}).") from None
                last = frame, _Truth(**found)
            if last is not None:
                yield self._sample(*last, None)

    def _sample(self, frame: Frame, truth: _Truth, following: Frame | None) -> BagSample:
        try:
            depth = None if truth.depth is None else depth_from_message(truth.depth)
            flow = self._flow(truth.flow, frame, following)
            instances = _instances(truth)
            normals = None if truth.normals is None else NormalTruth.where_known(normals_from_message(truth.normals))
        except ValueError as error:  # ImageError is one, and so is a mask that does not fit its box
            raise InputError(f"{_name(frame)}: a ground truth message is unusable: {error}.") from None
        target = None if flow is None else following
        return BagSample(
            _name(frame),
            frame.image,
            None if target is None else target.image,
            None if depth is None else DepthTruth.within(depth, NEAREST, FARTHEST),
            flow,
            list(instances.values()),
            normals,
            frame=frame,
            next_stamp=None if target is None else target.stamp,
            ids=tuple(instances),
        )

    def _flow(self, message: Any, frame: Frame, following: Frame | None) -> FlowTruth | None:
        """The flow to the following frame, None where it is not known or leads elsewhere."""
        if message is None or following is None or reason_against(frame, following, None):
            return None
        if self._flow_type == OPTICAL_FLOW:
            if message.next_stamp.sec * NANOSECONDS + message.next_stamp.nanosec != following.stamp:
                return None
            message = message.flow
        return FlowTruth.where_finite(flow_from_message(message))


def _instances(truth: _Truth) -> dict[int, InstanceTruth]:
    """By id."""
    if truth.visible_masks is None or truth.amodal is None:
        return {}
    labels = labels_from_message(truth.visible_masks)
    enough = max(1, _VISIBLE_ENOUGH * labels.size)
    instances = {}
    for number, mask in amodal_masks_from_message(truth.amodal).items():
        visible = labels == number
        if np.count_nonzero(visible) >= enough:
            instances[number] = InstanceTruth(visible, mask)
    return instances


def _name(frame: Frame) -> str:
    return f"frame {frame.stamp / NANOSECONDS:.3f} s"
