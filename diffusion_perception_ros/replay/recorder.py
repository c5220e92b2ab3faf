"""From predictions to the messages of a bag."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diffusion_perception_ros.conversions import MetricState
from diffusion_perception_ros.conversions.fields import Fields
from diffusion_perception_ros.conversions.results import default_flow_range
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.replay.bag import RawMessage, Topic
from diffusion_perception_ros.replay.binding import bind
from diffusion_perception_ros.replay.definitions import PERCEPTION_STATUS
from diffusion_perception_ros.replay.frames import Frame
from diffusion_perception_ros.replay.moments import Moment
from diffusion_perception_ros.replay.outputs import results
from diffusion_perception_ros.replay.settings import ReplaySettings
from diffusion_perception_ros.replay.status import frame_status
from diffusion_perception_ros.replay.writer import BagWriter


@dataclass(frozen=True, eq=False)
class Prediction:
    """What came of one moment.

    Attributes:
        output: The prediction; None where the pipeline refused the frame.
        steps: Number of steps of each task that was computed.
        milliseconds: How long it took, of a batch its share.
        chosen: Fields of the status that differ from those that are the same for all frames.
    """

    output: PerceptionOutput | None
    steps: Mapping[str, int]
    milliseconds: float
    chosen: Fields = field(default_factory=dict)


class Recorder:
    """Writes all about one frame after the other.

    Args:
        writer: Where it goes.
        settings: Names of topics, colours, and whether times are written.
        choices: Fields of the status that are the same for all frames.

    Attributes:
        processed: Number of frames with results.
        refused: Number of frames that the pipeline refused.
        pairs: Number of frame pairs with flow.
        masks: Number of amodal masks.
        results: Number of result messages.
    """

    def __init__(self, writer: BagWriter, settings: ReplaySettings, choices: Fields) -> None:
        self._writer, self._settings, self._choices = writer, settings, choices
        self._color_range = settings.flow_color_range
        self.processed = self.refused = self.pairs = self.masks = self.results = 0

    def write(self, moment: Moment, prediction: Prediction) -> None:
        """Write the results about one frame, and its status."""
        began = time.perf_counter()
        frame, output = moment.frame, prediction.output
        if output is None:
            self.refused += 1
            return
        self.processed += 1
        self.pairs += moment.second is not None
        self.masks += len(output.amodal or ())
        if self._color_range is None:
            self._color_range = default_flow_range(*frame.image.shape[:2])
        for result in results(frame, moment.second, output, self._color_range):
            self._write(result.topic, bind(result.type, result.make()), frame)
            self.results += 1
        if moment.camera_info is not None and output.depth_relative is not None:
            self._write("depth/camera_info", moment.camera_info, frame)
        measured: dict[str, Any] = {"warm_started": output.warm_started}
        if output.depth_metric is not None:
            measured["metric_state"] = MetricState.TRUSTED
        if self._settings.include_status:
            publish_ms = 1e3 * (time.perf_counter() - began)
            measured |= {f"{stage}_ms": ms for stage, ms in output.stage_ms.items()}
            measured |= {"publish_ms": publish_ms, "total_ms": prediction.milliseconds + publish_ms}
        skipped = dict(moment.skipped) | ({"refused_by_pipeline": self.refused} if self.refused else {})
        status = frame_status(
            frame,
            moment.second,
            prediction.steps,
            moment.received,
            self.processed,
            skipped,
            **(self._choices | prediction.chosen),
            **measured,
        )
        self._write("status", bind(PERCEPTION_STATUS, status), frame)

    def copy(self, copies: list[RawMessage], topics: Mapping[str, Topic]) -> None:
        """Write messages as they were read."""
        for raw in copies:
            self._writer.copy(raw, topics[raw.topic].qos)

    def _write(self, topic: str, message: Any, frame: Frame) -> None:
        self._writer.write(f"{self._settings.namespace}/{topic}", message, frame.log_time)
