"""Metric depth of one camera: anchored by its reference, published only while it can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diffusion_perception_ros.conversions import ImageError, MetricState, depth_from_message, image_fields
from diffusion_perception_ros.conversions.results import METRIC_TOPICS
from diffusion_perception_ros.frames.frame import stamp_of
from diffusion_perception_ros.frames.intake import Intake, LiveFrame
from diffusion_perception_ros.metric.anchor import MetricAnchor, MetricDepth, Reference
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.ros.model import Model
from diffusion_perception_ros.ros.outputs import Outputs
from diffusion_perception_ros.ros.settings import NodeSettings


class MetricPublisher:
    """Turns a camera's relative depth into metres, as far as a reference or the checkpoint vouches for them.

    Args:
        model: The model.
        intake: Where references and calibrations come from, and where drops are counted.
        outputs: Where metres go.
        warn: Takes the kind of a warning, which is not repeated too often, and its sentence.
    """

    def __init__(self, model: Model, intake: Intake, outputs: Outputs, warn: Callable[[str, str], None]) -> None:
        self._model, self._intake, self._outputs, self._warn = model, intake, outputs, warn
        self._warned: set[str] = set()
        self.forget()

    def forget(self) -> None:
        """Begin anew: no scale from before is smoothed into one from now on."""
        self._anchor: MetricAnchor | None = None

    def publish(
        self, frame: LiveFrame, output: PerceptionOutput, settings: NodeSettings, everything: bool
    ) -> MetricDepth:
        """Publish the metres of a frame, if somebody wants them; and what is to be said about them."""
        wanted = [topic for topic in METRIC_TOPICS if everything or self._outputs.is_wanted(topic)]
        if settings.scale_source == "none" or not wanted:
            return MetricDepth(MetricState.OFF)
        metric = (
            MetricDepth(MetricState.TRUSTED, output.depth_metric)
            if settings.scale_source == "checkpoint"
            else self._anchored(frame, output, settings)
        )
        if metric.metres is None:
            return metric
        if "depth/image" in wanted:
            self._outputs.publish_fields("depth/image", image_fields(frame.header, metric.metres, "32FC1"))
        calibration = self._calibration(frame)
        if "depth/camera_info" in wanted and calibration is not None:
            self._outputs.publish_with_header("depth/camera_info", calibration, frame.header)
        return metric

    def _anchored(self, frame: LiveFrame, output: PerceptionOutput, settings: NodeSettings) -> MetricDepth:
        """Relative depth, as far as a reference vouches for its scale."""
        assert output.depth_relative is not None
        self._anchor = self._anchor or self._model.anchor()
        reference, unusable = self._reference(frame)
        if unusable:
            return MetricDepth(MetricState.POOR_FIT)
        return self._anchor.anchor(frame.stamp, output.depth_relative, reference, settings.anchor)

    def _reference(self, frame: LiveFrame) -> tuple[Reference | None, bool]:
        """The reference for a frame, and whether there is one that cannot be held against it."""
        message = self._intake.reference(frame.stamp)
        if message is None:
            return None, False
        try:
            depth = depth_from_message(message)
        except ImageError as error:
            self._intake.drop(f"reference_{error.reason}")
            self._warn_once(f"depth_reference cannot be read: {error}")
            return None, True
        size = f"{depth.shape[1]}x{depth.shape[0]}"
        if depth.shape != frame.image.shape[:2]:
            self._intake.drop("reference_size_mismatch")
            self._warn_once(
                f"depth_reference is {size} but image is {frame.image.shape[1]}x{frame.image.shape[0]}; register it to "
                "the image."
            )
            return None, True
        frames = message.header.frame_id, frame.header["frame_id"]
        if all(frames) and frames[0] != frames[1]:
            self._warn_once(f"depth_reference is in the frame {frames[0]} but image in {frames[1]}; register it.")
        header = {"stamp": {"sec": message.header.stamp.sec, "nanosec": message.header.stamp.nanosec}}
        return Reference(stamp_of(header), depth), False

    def _calibration(self, frame: LiveFrame) -> Any | None:
        message = self._intake.camera_info(frame.stamp)
        if message is None:
            return None
        height, width = frame.image.shape[:2]
        if (message.height, message.width) != (height, width):
            self._warn_once(
                f"camera_info is about {message.width}x{message.height} pixels but image has {width}x{height}; "
                "depth/camera_info is withheld."
            )
            return None
        return message

    def _warn_once(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            self._warn(sentence, sentence)
