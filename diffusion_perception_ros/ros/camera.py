"""One camera of an active node: what is asked about its frames, and what is published about them."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from diffusion_perception_ros.conversions import MetricState
from diffusion_perception_ros.conversions.results import default_flow_range, flow_results, image_results
from diffusion_perception_ros.conversions.status import perception_status_fields
from diffusion_perception_ros.frames.intake import LiveFrame
from diffusion_perception_ros.frames.mailbox import Mailbox
from diffusion_perception_ros.metric.anchor import MetricDepth
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.request import Request
from diffusion_perception_ros.ros.inputs import Inputs
from diffusion_perception_ros.ros.jobs import Job, plan
from diffusion_perception_ros.ros.metric import MetricPublisher
from diffusion_perception_ros.ros.model import Model
from diffusion_perception_ros.ros.outputs import STATUS, Outputs
from diffusion_perception_ros.ros.settings import NodeSettings

_WINDOW = 20  # results over which rates and latencies are averaged


@dataclass(frozen=True)
class Done:
    """One result: when it was there (time.monotonic), how long it took, and the age of its frame at the beginning."""

    when: float
    total_ms: float
    input_age_ms: float


@dataclass(frozen=True)
class Turn:
    """What one camera is to be told this time.

    Attributes:
        camera: Whose.
        jobs: What is asked about its frames.
        generation: Of its intake when this began: after a time jump nobody wants the results.
        input_age: Of the newest of the frames, s; NaN without a stamp.
    """

    camera: Camera
    jobs: list[Job]
    generation: int
    input_age: float


class Camera:
    """One camera's topics and past.

    Args:
        name: The camera's; empty for the only one of a node.
        model: The model.
        inputs: Where frames, references and calibrations come from.
        mailbox: Where the inputs put work.
        outputs: Where results go.
        now: The node's clock in ns.
        warn: Takes the kind of a warning, which is not repeated too often, and its sentence.

    Attributes:
        processed: Frames with results.
        metric: What was last said about metres.
        recent: The last results.
    """

    def __init__(
        self,
        name: str,
        model: Model,
        inputs: Inputs,
        mailbox: Mailbox,
        outputs: Outputs,
        now: Callable[[], int],
        warn: Callable[[str, str], None],
    ) -> None:
        self.name, self.inputs, self.mailbox, self.outputs = name, inputs, mailbox, outputs
        self._model, self._intake, self._now = model, inputs.intake, now
        self._metric = MetricPublisher(model, inputs.intake, outputs, warn)
        self.processed = 0
        self.metric = MetricDepth(MetricState.OFF)
        self.recent: deque[Done] = deque(maxlen=_WINDOW)
        self._forget()

    def _forget(self) -> None:
        self._generation = self._intake.generation
        self._last: LiveFrame | None = None
        self._metric.forget()
        self._model.forget(self.name)

    def begin(self, items: dict[str, Any], settings: NodeSettings, request: Request) -> Turn | None:
        """What to compute of what waited in the mailbox; None for nothing.

        Args:
            items: By slot.
            settings: The current ones.
            request: What they ask of the pipeline.
        """
        if self._intake.generation != self._generation:
            self._forget()
        if settings.max_input_age and self._age(items.get("frame")) > settings.max_input_age:
            self._intake.drop("too_old")
            items = {slot: item for slot, item in items.items() if slot == "masks"}
        wanted = self.outputs.wanted_tasks(settings.scale_source != "none") if settings.lazy else self.outputs.tasks
        wanted = tuple(task for task in wanted if task in self._model.tasks(settings))
        jobs = plan(items, wanted, settings, self._last, self._intake.drop)
        self._last = items.get("frame", self._last)
        if jobs:
            return Turn(self, jobs, self._generation, self._age(jobs[0].frame))
        if "frame" in items:
            self._intake.drop("not_wanted")
            if self.outputs.is_wanted(STATUS):
                self._publish_status(items["frame"], [], request, input_age_ms=1e3 * self._age(items["frame"]))
        return None

    def finish(
        self,
        turn: Turn,
        outputs: list[PerceptionOutput],
        settings: NodeSettings,
        request: Request,
        began: float,
    ) -> None:
        """Publish.

        Args:
            turn: What was asked.
            outputs: The answer to each job.
            settings: Those that ``begin`` had.
            request: Likewise.
            began: When, on time.perf_counter's clock.
        """
        if self._intake.generation != turn.generation:
            self._intake.drop("time_jump")
            return
        predicted = time.perf_counter()
        everything = not settings.lazy
        metric = MetricDepth(MetricState.OFF)
        for job, output in zip(turn.jobs, outputs, strict=True):
            self._publish(job, output, settings, everything)
            if output.depth_relative is not None:
                metric = self._metric.publish(job.frame, output, settings, everything)
        self.processed += 1
        self.metric = metric
        finished = time.perf_counter()
        total_ms, input_age_ms = 1e3 * (finished - began), 1e3 * turn.input_age
        self.recent.append(Done(time.monotonic(), total_ms, input_age_ms))
        if everything or self.outputs.is_wanted(STATUS):
            # All jobs were in one batch, so that its times are those of each.
            stages: Mapping[str, float] = max((output.stage_ms for output in outputs), key=len)
            spent = {f"{stage}_ms": stage_ms for stage, stage_ms in stages.items()}
            self._publish_status(
                turn.jobs[0].frame,
                turn.jobs,
                request,
                input_age_ms=input_age_ms,
                publish_ms=1e3 * (finished - predicted),
                total_ms=total_ms,
                warm_started=any(output.warm_started for output in outputs),
                **spent,
            )

    def drop(self, reason: str) -> None:
        """Count work that was given up."""
        self._intake.drop(reason)

    def _publish(self, job: Job, output: PerceptionOutput, settings: NodeSettings, everything: bool) -> None:
        frame, header = job.frame, job.frame.header
        results = image_results(header, frame.image, output, job.omitted, settings.with_appearance)
        self.outputs.publish(results, everything)
        if job.second is not None:
            color_range = settings.flow_range or default_flow_range(*frame.image.shape[:2])
            stamp = job.second.header["stamp"]
            self.outputs.publish(flow_results(header, stamp, output, color_range), everything)

    def _publish_status(self, frame: LiveFrame, jobs: list[Job], request: Request, **measured: Any) -> None:
        pipe = self._model.pipe
        flow = next((job for job in jobs if job.second is not None), None)
        if flow is not None and flow.second is not None and flow.second.position > frame.position:
            frame = flow.second
        reduced = self._model.plan if jobs else None
        # Amodal of a frame without objects is always answered, and costs nothing.
        tasks = [
            task
            for job in jobs
            for task in job.tasks
            if reduced is None or task in reduced.tasks or (task == "amodal" and not job.has_objects)
        ]
        chosen = reduced or request
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
            codec=pipe.decoding(request.num_inference_steps),
            sampler=request.sampler.name,
            tasks=tasks,
            num_inference_steps=[chosen.num_inference_steps] * len(tasks),
            ensemble_size=chosen.ensemble_size,
            budget_ms=self._model.budget_ms,
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
            **measured,
        )
        self.outputs.publish_fields(STATUS, status)

    def _age(self, frame: LiveFrame | None) -> float:
        """Seconds since the frame's stamp; NaN without a stamp."""
        return math.nan if frame is None or not frame.stamp else (self._now() - frame.stamp) / 1e9
