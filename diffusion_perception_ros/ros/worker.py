"""The thread that infers: always on the newest, never in a callback."""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from diffusion_perception_ros.conversions import ImageError, MetricState, depth_from_message, image_fields
from diffusion_perception_ros.conversions.results import METRIC_TOPICS, default_flow_range, flow_results, image_results
from diffusion_perception_ros.conversions.status import perception_status_fields
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.frames.frame import stamp_of
from diffusion_perception_ros.frames.intake import Intake, LiveFrame
from diffusion_perception_ros.frames.mailbox import Mailbox
from diffusion_perception_ros.metric.anchor import MetricDepth, Reference
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.request import Request
from diffusion_perception_ros.ros.jobs import Job, plan
from diffusion_perception_ros.ros.model import CancelledError, DeviceMemoryError, Model
from diffusion_perception_ros.ros.outputs import STATUS, Outputs
from diffusion_perception_ros.ros.parameters import NodeSettings

_WINDOW = 20  # results over which rates and latencies are averaged


class Choices(NamedTuple):
    """The settings, and what they ask of the pipeline."""

    settings: NodeSettings
    request: Request


@dataclass(frozen=True)
class Done:
    """One result: when it was there (time.monotonic), how long it took, and the age of its frame at the beginning."""

    when: float
    total_ms: float
    input_age_ms: float


class Worker:
    """Fetches from the mailbox, predicts and publishes until it is stopped.

    Args:
        model: The model.
        outputs: Where results go.
        intake: Where references and calibrations come from, and where drops are counted.
        mailbox: Where work comes from.
        choices: The current settings, asked for anew for each frame.
        now: The node's clock in ns.
        warn: Takes the kind of a warning, which is not repeated too often, and its sentence.

    Attributes:
        processed: Frames with results.
        metric: What was last said about metres.
        recent: The last results.
    """

    def __init__(
        self,
        model: Model,
        outputs: Outputs,
        intake: Intake,
        mailbox: Mailbox,
        choices: Callable[[], Choices],
        now: Callable[[], int],
        warn: Callable[[str, str], None],
    ) -> None:
        self._model, self._outputs, self._intake, self._mailbox = model, outputs, intake, mailbox
        self._choices, self._now, self._warn = choices, now, warn
        self.processed = 0
        self.metric = MetricDepth(MetricState.OFF)
        self.recent: deque[Done] = deque(maxlen=_WINDOW)
        self._warned: set[str] = set()
        self._forget()
        self._thread = threading.Thread(target=self._work, name="perception")

    def start(self) -> None:
        """Begin."""
        self._model.resume()
        self._thread.start()

    def stop(self) -> None:
        """Give up what is being computed and end the thread."""
        self._mailbox.close()
        self._model.cancel()
        if self._thread.is_alive():
            self._thread.join()

    def _forget(self) -> None:
        self._generation = self._intake.generation
        self._last: LiveFrame | None = None
        anchored = self._choices().settings.scale_source == "reference"
        self._anchor = self._model.anchor() if anchored else None

    def _work(self) -> None:
        earliest = 0.0
        while not self._mailbox.closed:
            rate = self._choices().settings.max_rate
            wait = earliest - time.monotonic()
            if rate and wait > 0:
                # In short naps, so that neither the end nor another rate has to wait.
                time.sleep(min(wait, 0.05))
                continue
            items = self._mailbox.fetch()
            if not items:
                continue
            earliest = time.monotonic() + (1 / rate if rate else 0)
            try:
                self._process(items)
            except CancelledError:
                return
            except InputError as error:
                self._give_up("refused_by_pipeline", str(error))
            except DeviceMemoryError as error:
                self._give_up("out_of_memory", str(error))
            except Exception as error:
                if self._mailbox.closed:  # the topics may be gone already
                    return
                self._give_up("inference_failed", f"inference failed: {type(error).__name__}: {_first_line(error)}")

    def _process(self, items: dict[str, Any]) -> None:
        began = time.perf_counter()
        settings, request = self._choices()
        if self._intake.generation != self._generation:
            self._forget()
        generation = self._generation
        if settings.max_input_age and self._age(items.get("frame")) > settings.max_input_age:
            self._intake.drop("too_old")
            items = {slot: item for slot, item in items.items() if slot == "masks"}
        everything = not settings.lazy
        wanted = self._outputs.tasks if everything else self._outputs.wanted_tasks(settings.scale_source != "none")
        wanted = tuple(task for task in wanted if task in self._model.tasks(settings))
        jobs = plan(items, wanted, settings, self._last, self._intake.drop)
        self._last = items.get("frame", self._last)
        if not jobs:
            if "frame" in items:
                self._intake.drop("not_wanted")
                if self._outputs.is_wanted(STATUS):
                    self._publish_status(items["frame"], [], request, {"input_age_ms": 1e3 * self._age(items["frame"])})
            return
        age = self._age(jobs[0].frame)
        metric = MetricDepth(MetricState.OFF)
        spent: defaultdict[str, float] = defaultdict(float)
        for job in jobs:
            output = self._predict(job, settings)
            if self._intake.generation != generation:
                self._intake.drop("time_jump")
                return
            predicted = time.perf_counter()
            self._publish(job, output, settings, everything)
            if output.depth_relative is not None:
                metric = self._publish_metric(job.frame, output, settings, everything)
            for stage, stage_ms in output.stage_ms.items():
                spent[f"{stage}_ms"] += stage_ms
            spent["publish_ms"] += 1e3 * (time.perf_counter() - predicted)
        self.processed += 1
        self.metric = metric
        total_ms = 1e3 * (time.perf_counter() - began)
        self.recent.append(Done(time.monotonic(), total_ms, 1e3 * age))
        if everything or self._outputs.is_wanted(STATUS):
            times = {"input_age_ms": 1e3 * age, "total_ms": total_ms, **spent}
            self._publish_status(jobs[0].frame, jobs, request, times)

    def _predict(self, job: Job, settings: NodeSettings) -> PerceptionOutput:
        labels = job.labels
        nothing_visible = labels is not None and not labels.any()
        tasks = tuple(task for task in job.tasks if not (task == "amodal" and nothing_visible))
        output = PerceptionOutput()
        if tasks:
            second = job.second if "flow" in tasks else None
            output = self._model.predict(
                job.frame.image,
                second.image if second is not None else None,
                None if nothing_visible else labels,
                tasks,
                settings,
                frame=job.frame,
                next_frame=second,
            )
        return replace(output, amodal=[]) if nothing_visible else output

    def _publish(self, job: Job, output: PerceptionOutput, settings: NodeSettings, everything: bool) -> None:
        frame, header = job.frame, job.frame.header
        results = image_results(header, frame.image, output, job.omitted, settings.with_appearance)
        self._outputs.publish(results, everything)
        if job.second is not None:
            color_range = settings.flow_range or default_flow_range(*frame.image.shape[:2])
            stamp = job.second.header["stamp"]
            self._outputs.publish(flow_results(header, stamp, output, color_range), everything)

    def _publish_metric(
        self, frame: LiveFrame, output: PerceptionOutput, settings: NodeSettings, everything: bool
    ) -> MetricDepth:
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
        self._anchor = self._anchor or self._model.anchor()  # it may have been switched on meanwhile
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

    def _publish_status(self, frame: LiveFrame, jobs: list[Job], request: Request, times: dict[str, float]) -> None:
        pipe = self._model.pipe
        flow = next((job for job in jobs if job.second is not None), None)
        if flow is not None and flow.second is not None and flow.second.position > frame.position:
            frame = flow.second
        tasks = [task for job in jobs for task in job.tasks]
        drops = self._intake.drops
        fit = self.metric.fit
        metric: dict[str, Any] = {}
        if fit is not None:
            metric = {"depth_scale": fit.scale, "depth_shift": fit.shift, "depth_inlier_ratio": fit.inlier_ratio}
        status = perception_status_fields(
            frame.header,
            **({"pair_stamp": flow.second.header["stamp"]} if flow is not None and flow.second is not None else {}),
            checkpoint=pipe.metadata.name,
            device=str(pipe.device),
            dtype=str(pipe.dtype).removeprefix("torch."),
            codec=pipe.codec.name,
            sampler=request.sampler.name,
            tasks=tasks,
            num_inference_steps=[request.num_inference_steps] * len(tasks),
            ensemble_size=request.ensemble_size,
            convert_ms=frame.convert_ms,
            frames_received=self._intake.received,
            frames_processed=self.processed,
            drop_reasons=sorted(drops),
            drop_counts=[drops[reason] for reason in sorted(drops)],
            metric_state=self.metric.state,
            reference_age=self.metric.reference_age,
            device_memory=self._model.device_memory,
            degraded_reason=self._model.degraded_reason,
            **metric,
            **times,
        )
        self._outputs.publish_fields(STATUS, status)

    def _age(self, frame: LiveFrame | None) -> float:
        """Seconds since the frame's stamp; NaN without a stamp."""
        return math.nan if frame is None or not frame.stamp else (self._now() - frame.stamp) / 1e9

    def _give_up(self, reason: str, sentence: str) -> None:
        self._intake.drop(reason)
        self._warn(reason, sentence)

    def _warn_once(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            self._warn(sentence, sentence)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")
