"""The engine: the frames of a bag go through a pipeline, one at a time, into another bag."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions import ImageError, MetricState, labels_from_message
from diffusion_perception_ros.conversions.results import default_flow_range
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.frames.pairing import reason_against
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.replay.bag import RawMessage, UndeserializableError, deserialize
from diffusion_perception_ros.replay.binding import bind
from diffusion_perception_ros.replay.camera_info import CameraInfos
from diffusion_perception_ros.replay.definitions import PERCEPTION_STATUS
from diffusion_perception_ros.replay.frames import Frame, FrameDecoder
from diffusion_perception_ros.replay.masks import LabelImages
from diffusion_perception_ros.replay.outputs import results
from diffusion_perception_ros.replay.pairing import PairTopic
from diffusion_perception_ros.replay.preflight import check_settings
from diffusion_perception_ros.replay.reader import BagReader
from diffusion_perception_ros.replay.settings import ReplaySettings
from diffusion_perception_ros.replay.status import choices, frame_status
from diffusion_perception_ros.replay.topics import SourceTopics
from diffusion_perception_ros.replay.writer import BagWriter
from diffusion_perception_ros.stream import PerceptionStream

if TYPE_CHECKING:
    from diffusion_perception_ros.pipeline import PerceptionPipeline

Progress = Callable[[int, int], None]
"""Called with the number of image messages read and their (expected) total."""

# Copies of the input wait for the results that belong before them in time, but not without limit.
_WAITING_COPIES = 64


class Engine:
    """One pass over a bag. Holds two frames at a time, however long the bag is.

    Attributes:
        decoder: Counts the frames read, and the messages skipped.
        skipped: Messages that could not be used, by reason.
        omitted: Parts of results that could not be made, by reason.
        processed: Number of frames with results.
        pairs: Number of frame pairs with flow.
        masks: Number of amodal masks.
        results: Number of result messages.
        tasks: Names of the tasks that are run.
        refusal: What the pipeline said when it last refused a frame.

    Raises:
        InputError: The pipeline refuses the settings.
    """

    def __init__(
        self,
        bag: BagReader,
        topics: SourceTopics,
        pipe: PerceptionPipeline,
        settings: ReplaySettings,
        writer: BagWriter,
    ) -> None:
        self._bag, self._topics, self._settings, self._writer = bag, topics, settings, writer
        self._stream = PerceptionStream(pipe)
        request = check_settings(pipe, settings)
        self.tasks = tuple(task.name for task in request.tasks)
        self._choices = choices(pipe, request)
        self._steps = request.num_inference_steps
        self._color_range = settings.flow_color_range
        self._copies: list[RawMessage] = []
        self._camera_infos = CameraInfos()
        self._labels = LabelImages(bag, topics.masks) if topics.masks and "amodal" in self.tasks else None
        self._partners = PairTopic(bag.messages([topics.pair])) if topics.pair and "flow" in self.tasks else None
        self.decoder = FrameDecoder()
        self.refusal: str | None = None
        self._bad_masks = Counter({"masks_undeserializable": self._labels.unreadable if self._labels else 0})
        self.omitted: Counter[str] = Counter()
        self.processed = self.pairs = self.masks = self.results = 0

    @property
    def skipped(self) -> Counter[str]:
        """Messages that could not be used, by reason; those of the label images and second frames by prefix."""
        skipped = self.decoder.skipped + self._bad_masks
        if self._partners:
            skipped += Counter({f"pair_{reason}": n for reason, n in self._partners.decoder.skipped.items()})
        return skipped

    def run(self, progress: Progress) -> None:
        """Process every frame.

        Raises:
            InputError: The output cannot be written.
        """
        total = self._bag.topics[self._topics.image].count
        wanted = {self._topics.image, self._topics.camera_info} - {None}
        if self._settings.include_input:
            wanted |= set(self._topics.all)
        waiting: Frame | None = None
        for raw in self._bag.messages({topic for topic in wanted if topic}):
            if self._settings.include_input:
                self._copies.append(raw)
            if raw.topic == self._topics.camera_info:
                self._camera_infos.add(raw)
            frame = self.decoder.decode(raw) if raw.topic == self._topics.image else None
            if frame is not None:
                if waiting is not None:
                    self._process(waiting, frame)
                waiting = frame
            if frame is not None or len(self._copies) > _WAITING_COPIES:
                self._write_copies()
            if raw.topic == self._topics.image:
                progress(self.decoder.received, max(total, self.decoder.received))
        if waiting is not None:
            self._process(waiting, None)
        self._write_copies()
        if self._labels:
            self.omitted += self._labels.unused

    def _process(self, frame: Frame, following: Frame | None) -> None:
        """Predict and write all about ``frame``; ``following`` is the next good frame of the topic."""
        began = time.perf_counter()
        second = self._second(frame, following) if "flow" in self.tasks else None
        labels = self._find_labels(frame)
        possible = {"flow": second is not None, "amodal": labels is not None and bool(labels.any())}
        tasks = tuple(task for task in self.tasks if possible.get(task, True))
        output = PerceptionOutput()
        if tasks:
            try:
                output = self._predict(frame, second, labels if "amodal" in tasks else None, tasks)
            except InputError as error:
                self.refusal = str(error)
                self.decoder.skipped["refused_by_pipeline"] += 1
                return
        if labels is not None and "amodal" not in tasks:
            output = replace(output, amodal=[])  # the label image says that there are no objects
        self.processed += 1
        self.pairs += second is not None
        self.masks += len(output.amodal or ())
        self._write_results(frame, second, output, dict.fromkeys(tasks, self._steps), began)

    def _predict(
        self, frame: Frame, second: Frame | None, labels: NDArray[np.integer[Any]] | None, tasks: tuple[str, ...]
    ) -> PerceptionOutput:
        return self._stream(
            frame.image,
            second.image if second else None,
            labels,
            frame=frame,
            next_frame=second,
            tasks=tasks,
            **self._settings.arguments,
        )

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

    def _write_results(
        self, frame: Frame, second: Frame | None, output: PerceptionOutput, steps: dict[str, int], began: float
    ) -> None:
        if self._color_range is None:
            self._color_range = default_flow_range(*frame.image.shape[:2])
        predicted = time.perf_counter()
        for result in results(frame, second, output, self._color_range):
            self._write(result.topic, bind(result.type, result.make()), frame)
            self.results += 1
        camera_info = self._camera_infos.find(frame)
        if camera_info is not None and output.depth_relative is not None:
            self._write("depth/camera_info", camera_info, frame)
        measured: dict[str, Any] = {}
        if output.depth_metric is not None:
            measured["metric_state"] = MetricState.TRUSTED
        if self._settings.include_status:
            written = time.perf_counter()
            measured |= {f"{stage}_ms": ms for stage, ms in output.stage_ms.items()}
            measured |= {"publish_ms": 1e3 * (written - predicted), "total_ms": 1e3 * (written - began)}
        status = frame_status(
            frame, second, steps, self.decoder.received, self.processed, self.skipped, **self._choices, **measured
        )
        self._write("status", bind(PERCEPTION_STATUS, status), frame)

    def _write(self, topic: str, message: Any, frame: Frame) -> None:
        self._writer.write(f"{self._settings.namespace}/{topic}", message, frame.log_time)

    def _write_copies(self) -> None:
        for raw in self._copies:
            self._writer.copy(raw, self._bag.topics[raw.topic].qos)
        self._copies.clear()
