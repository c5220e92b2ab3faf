"""The thread that infers: always on the newest of every camera, all of them in one batch, never in a callback."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from diffusion_perception_ros.budget.stream import DeviceMemoryError
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.frames.mailbox import fetch_all
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.request import Request
from diffusion_perception_ros.ros.camera import Camera, Turn
from diffusion_perception_ros.ros.jobs import Job
from diffusion_perception_ros.ros.model import CancelledError, Model
from diffusion_perception_ros.ros.settings import NodeSettings


class Choices(NamedTuple):
    """The settings, and what they ask of the pipeline."""

    settings: NodeSettings
    request: Request


class Worker:
    """Fetches from the mailboxes, predicts and publishes until it is stopped.

    Whatever waits when a batch begins is part of it, so that no camera has to stand back.

    Args:
        model: The model.
        cameras: The cameras, whose mailboxes share a condition.
        choices: The current settings, asked for anew for each batch.
        warn: Takes the kind of a warning, which is not repeated too often, and its sentence.
    """

    def __init__(
        self,
        model: Model,
        cameras: Sequence[Camera],
        choices: Callable[[], Choices],
        warn: Callable[[str, str], None],
    ) -> None:
        self._model, self._cameras, self._choices, self._warn = model, cameras, choices, warn
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="perception")

    def start(self) -> None:
        """Begin."""
        self._model.resume()
        self._thread.start()

    def stop(self) -> None:
        """Give up what is being computed and end the thread."""
        self._stopped = True
        for camera in self._cameras:
            camera.mailbox.close()
        self._model.cancel()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        earliest = 0.0
        while not self._stopped:
            rate = self._choices().settings.max_rate
            wait = earliest - time.monotonic()
            if rate and wait > 0:
                # In short naps, so that neither the end nor another rate has to wait.
                time.sleep(min(wait, 0.05))
                continue
            waiting = fetch_all([camera.mailbox for camera in self._cameras])
            earliest = time.monotonic() + (1 / rate if rate else 0)
            turns: list[Turn] = []
            try:
                self._process(waiting, turns)
            except CancelledError:
                return
            except DeviceMemoryError as error:
                self._give_up(turns, "out_of_memory", str(error))
            except InputError as error:
                self._give_up(turns, "refused_by_pipeline", str(error))
            except Exception as error:
                if self._stopped:  # the topics may be gone already
                    return
                sentence = f"inference failed: {type(error).__name__}: {_first_line(error)}"
                self._give_up(turns, "inference_failed", sentence)

    def _process(self, waiting: Sequence[dict[str, Any]], turns: list[Turn]) -> None:
        """One batch.

        Args:
            waiting: What waited in each mailbox, if anything did.
            turns: Filled with what is to be published, and emptied as it is.
        """
        began = time.perf_counter()
        choices = self._choices()
        for camera, items in zip(self._cameras, waiting, strict=False):
            turn = camera.begin(items, *choices) if items else None
            if turn is not None:
                turns.append(turn)
        requests: dict[int, Request] = {}
        for turn in list(turns):
            try:
                asked = {id(job): self._request(turn.camera, job, choices.settings) for job in turn.jobs}
            except InputError as error:
                turns.remove(turn)
                self._give_up([turn], "refused_by_pipeline", str(error))
            else:
                requests |= {job: request for job, request in asked.items() if request is not None}
        if not turns:
            return
        predicted = self._model.predict(list(requests.values()), choices.settings)
        outputs = dict(zip(requests, predicted, strict=True))
        while turns:
            answers = [_answer(job, outputs.get(id(job))) for job in turns[0].jobs]
            turns[0].camera.finish(turns[0], answers, *choices, began)
            del turns[0]
        if predicted:
            elapsed_ms = 1e3 * (time.perf_counter() - began)
            self._model.spent_elsewhere(elapsed_ms - sum(predicted[0].stage_ms.values()))

    def _request(self, camera: Camera, job: Job, settings: NodeSettings) -> Request | None:
        """What a job asks of the model; None if no object is visible and nothing else is asked."""
        labels = job.labels if job.has_objects else None
        tasks = tuple(task for task in job.tasks if task != "amodal" or labels is not None)
        if not tasks:
            return None
        second = job.second if "flow" in tasks else None
        return self._model.request(
            job.frame.image,
            second.image if second is not None else None,
            labels,
            tasks,
            settings,
            camera=camera.name,
            frame=job.frame,
            next_frame=second,
            segment=job.frame.segment,
        )

    def _give_up(self, turns: Sequence[Turn], reason: str, sentence: str) -> None:
        for turn in turns:
            turn.camera.drop(reason)
        self._warn(reason, sentence)


def _answer(job: Job, output: PerceptionOutput | None) -> PerceptionOutput:
    output = output or PerceptionOutput()
    return replace(output, amodal=[]) if job.labels is not None and not job.has_objects else output


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")
