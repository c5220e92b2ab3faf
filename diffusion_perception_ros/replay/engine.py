"""The engine: the frames of a bag go through a pipeline, some at a time, into another bag."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from diffusion_perception_ros.conversions.fields import Fields
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.replay.moments import Moment, MomentReader, Step
from diffusion_perception_ros.replay.overlap import ReadAhead, WriteBehind
from diffusion_perception_ros.replay.preflight import check_settings
from diffusion_perception_ros.replay.reader import BagReader
from diffusion_perception_ros.replay.recorder import Prediction, Recorder
from diffusion_perception_ros.replay.settings import ReplaySettings
from diffusion_perception_ros.replay.status import choices
from diffusion_perception_ros.replay.topics import SourceTopics
from diffusion_perception_ros.replay.wording import counted
from diffusion_perception_ros.replay.writer import BagWriter
from diffusion_perception_ros.stream import PerceptionStream
from diffusion_perception_ros.summary import counts_by_reason

if TYPE_CHECKING:
    from diffusion_perception_ros.pipeline import PerceptionPipeline
    from diffusion_perception_ros.request import Request

Progress = Callable[[int, int], None]
"""Called with the number of image messages that are done with, and their (expected) total."""


class Engine:
    """One pass over a bag.

    While some frames are predicted, those after them are read, and the results of those before them are written, each
    in a thread of its own. At most four times as many frames as are predicted at once are held, however long the bag.

    Args:
        bag: The input.
        topics: What is read of it.
        pipe: Makes the predictions.
        settings: All options.
        writer: The output, not yet opened.

    Attributes:
        tasks: Names of the tasks that are run.
        batch_size: How many frames are predicted at once.
        reduced: Of how many frames less than was wanted has been computed, or in smaller batches, by reason.
        read: What was read and skipped.
        recorder: What was written.

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
        # Here, because it brings torch, which the pipeline has brought by now.
        from diffusion_perception_ros.budget.stream import BudgetedStream  # noqa: PLC0415

        self._stream = PerceptionStream(pipe)
        request = check_settings(pipe, settings)
        self._stream.check_temporal(settings.temporal, request)
        self.tasks = tuple(task.name for task in request.tasks)
        self._budgeted = BudgetedStream(self._stream, settings.budget_ms, self.tasks)
        self.reduced: Counter[str] = Counter()
        self.batch_size = settings.batch_size or default_batch_size(str(pipe.device))
        self._segment = 0
        self._refusal: str | None = None
        self.read = MomentReader(bag, topics, settings, self.tasks)
        self.recorder = Recorder(writer, settings, choices(pipe, request))

    @property
    def skipped(self) -> Counter[str]:
        """Messages that could not be used, by reason."""
        return self.read.skipped + Counter({"refused_by_pipeline": self.recorder.refused})

    def run(self, progress: Progress) -> None:
        """Process every frame.

        Raises:
            InputError: The output cannot be written, or there would be nothing in it.
        """
        total = self._bag.topics[self._topics.image].count
        told = 0
        # Predictions stay in this thread: an interrupt, which always ends up here, need not wait for them.
        with (
            WriteBehind(self._write, self.batch_size) as written,
            ReadAhead(self.read.steps(), self.batch_size) as steps,
        ):
            for some in _grouped(steps, self.batch_size):
                predictions = iter(self.predict([step.moment for step in some if step.moment]))
                for step in some:
                    written.put((step, next(predictions) if step.moment else None))
                    if step.done > told:
                        told = step.done
                        progress(told, max(total, told))

    def _write(self, items: Iterator[tuple[Step, Prediction | None]]) -> None:
        with self._writer:
            for step, prediction in items:
                if step.moment and prediction:
                    self.recorder.write(step.moment, prediction)
                self.recorder.copy(step.copies, self._bag.topics)
            if not self.recorder.results:
                raise InputError(self._reason_for_nothing())

    def predict(self, moments: list[Moment]) -> list[Prediction]:
        """What there is to say about each; those that the pipeline refuses cost the others nothing."""
        began = time.perf_counter()
        tasks = [self._possible_tasks(moment) for moment in moments]
        requests = {i: self._request(moments[i], chosen) for i, chosen in enumerate(tasks) if chosen}
        accepted = {i: request for i, request in requests.items() if request is not None}
        outputs = dict(zip(accepted, self._budgeted.batch(list(accepted.values()), len(accepted)), strict=True))
        plan, reason = self._budgeted.plan, self._budgeted.degraded_reason
        chosen: Fields = {"ensemble_size": plan.ensemble_size, "degraded_reason": reason} if plan else {}
        if self._settings.budget_ms is not None:
            chosen["budget_ms"] = self._settings.budget_ms
        if reason and accepted:
            self.reduced[reason] += len(accepted)
        share = 1 / max(1, len(accepted))
        milliseconds = 1e3 * (time.perf_counter() - began) * share
        predictions = []
        for i, moment in enumerate(moments):
            output = None if i in requests and i not in outputs else outputs.get(i, PerceptionOutput())
            if output is not None:
                stage_ms = {stage: ms * share for stage, ms in output.stage_ms.items()}
                # Without a task, the label image says that there are no objects.
                nothing_hidden = moment.labels is not None and "amodal" not in tasks[i]
                output = replace(output, stage_ms=stage_ms, amodal=[] if nothing_hidden else output.amodal)
            steps = {task: plan.num_inference_steps for task in tasks[i] if plan and task in plan.tasks}
            predictions.append(Prediction(output, steps, milliseconds, chosen))
        return predictions

    def _possible_tasks(self, moment: Moment) -> tuple[str, ...]:
        labels = moment.labels
        possible = {"flow": moment.second is not None, "amodal": labels is not None and bool(labels.any())}
        return tuple(task for task in self.tasks if possible.get(task, True))

    def _request(self, moment: Moment, tasks: tuple[str, ...]) -> Request | None:
        frame, second = moment.frame, moment.second
        if frame.segment != self._segment:
            self._segment = frame.segment
            self._stream.reset()
        try:
            return self._stream.request(
                frame.image,
                second.image if second else None,
                moment.labels if "amodal" in tasks else None,
                frame=frame,
                next_frame=second,
                segment=frame.segment,
                temporal=self._settings.temporal,
                tasks=tasks,
                **self._settings.arguments,
            )
        except InputError as error:
            self._refusal = str(error)
            return None

    def _reason_for_nothing(self) -> str:
        topic, received = self._topics.image, self.read.decoder.received
        counts = counts_by_reason({**self.skipped, **self.read.omitted})
        if not received:
            return "; ".join([f"{topic} has no readable message in this bag", *self._bag.damage]) + "."
        if not self.recorder.processed:
            reason = f": {self._refusal}" if self._refusal else "."
            return f"0 of {counted(received, 'message')} on {topic} could be used ({counts}){reason}"
        return (
            f"{counted(self.recorder.processed, 'frame')} on {topic} gave no result for the chosen tasks"
            f"{f' ({counts})' if counts else ''}; flow needs two frames, amodal label images with the stamps of frames."
        )


def default_batch_size(device: str) -> int:
    """How many frames are predicted at once where it is not chosen: what a device gains by more is next to nothing."""
    return 4 if device.startswith("cpu") else 8


def _grouped(steps: Iterable[Step], batch_size: int) -> Iterator[list[Step]]:
    """Steps of which so many have a moment: however fast the threads are, the same ones go together in every run."""
    some: list[Step] = []
    for step in steps:
        some.append(step)
        # Stretches without usable frames do not pile up.
        if sum(step.moment is not None for step in some) == batch_size or len(some) > 2 * batch_size:
            yield some
            some = []
    if some:
        yield some
