"""A few frames through each of several pipelines in turn, so that whatever else the machine does slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch

from diffusion_perception_ros.benchmarking.clip import Clip
from diffusion_perception_ros.benchmarking.configuration import Configuration, Model
from diffusion_perception_ros.benchmarking.memory import WorkingMemory
from diffusion_perception_ros.benchmarking.models import Models, released_codec
from diffusion_perception_ros.benchmarking.spread import Spread
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.stream import PerceptionStream

STAGES = ("encode", "denoise", "decode", "total")
# Rounds of more seconds are so long that what a first call takes longer does not matter.
_LONG_ROUND = 10.0
# A stream's frames follow each other, and its weights stay in the caches; only in short rounds that can be waited for.
_SHORT_ROUND, _COUNTED_IN_TURN = 2.0, 4

Predict = Callable[..., PerceptionOutput]


@dataclass(frozen=True)
class Effort:
    """How long is measured.

    Attributes:
        rounds: Most frames that are measured of each pipeline; at least one is.
        seconds: No further round is begun after so many.
        warm_up: Most frames before that.
    """

    rounds: int = 20
    seconds: float = 60.0
    warm_up: int = 3


@dataclass
class Measurement:
    """What was measured of one configuration.

    Attributes:
        configuration: Which.
        milliseconds: Of each frame, by stage.
        pictures: Encoded for the last frame.
        memory: Peak bytes beyond what is kept from frame to frame; None where it cannot be measured.
        released: The released way's milliseconds for the same frames; empty where that was not measured.
        difference: Mean absolute difference from what the released way predicts with the same codec, by field.
        error: Why it could not be measured.
        released_error: Why the released way could not.
    """

    configuration: Configuration
    milliseconds: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})
    pictures: int = 0
    memory: int | None = None
    released: list[float] = field(default_factory=list)
    difference: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    released_error: str | None = None

    @property
    def spreads(self) -> dict[str, Spread]:
        """Of each stage, in milliseconds."""
        return {stage: Spread.of(values) for stage, values in self.milliseconds.items()}

    @property
    def ratio(self) -> Spread | None:
        """How many times as long the released way takes, frame by frame; None where it did not get to the end."""
        total = self.milliseconds["total"]
        if not self.released or len(self.released) != len(total):
            return None
        return Spread.of([theirs / ours for theirs, ours in zip(self.released, total, strict=True)])


class Streams:
    """The streams of one checkpoint; all are at the same frame, from one group of configurations to the next.

    Args:
        models: Where the pipelines come from.
        clip: What the camera sees.
        device: Where they run.
    """

    def __init__(self, models: Models, clip: Clip, device: torch.device) -> None:
        self._models = models
        self._clip = clip
        self._device = device
        self._streams: dict[Model, PerceptionStream] = {}
        self._frame = 0
        self._round_seconds = 0.0

    def measure(
        self, configurations: Sequence[Configuration], effort: Effort, with_released: bool
    ) -> list[Measurement]:
        """Measure configurations of the same tasks and steps, and the released way beside them.

        What is impossible or does not fit into memory has an ``error``; the others are measured all the same.
        """
        measurements = [Measurement(configuration) for configuration in configurations]
        is_new = False
        for measurement in measurements:
            model = measurement.configuration.model
            if model not in self._streams:
                is_new = True
                with _error_of(measurement):
                    self._streams[model] = PerceptionStream(self._models.pipeline(*model))
        released = self._released(measurements) if with_released else {}
        # Compiled networks are compiled anew when batches have another size, and a GPU chooses its kernels.
        settles = self._device.type == "cuda" or any(configuration.compiled for configuration in configurations)
        for done in range(effort.warm_up):
            if (done or not is_new) and not settles and self._round_seconds > _LONG_ROUND:
                break
            self._round(measurements, released if done else {}, with_memory=self._device.type == "cpu")
        for measurement in measurements:
            measurement.milliseconds, measurement.released = {stage: [] for stage in STAGES}, []
        counted = _COUNTED_IN_TURN if self._round_seconds < _SHORT_ROUND else 1
        began = time.perf_counter()
        for done in range(0, effort.rounds, counted):
            if done and time.perf_counter() - began > effort.seconds:
                break
            frames = 1 + min(counted, effort.rounds - done) if counted > 1 else 1
            self._round(measurements, released, with_memory=True, frames=frames)
        return measurements

    def _released(self, measurements: Sequence[Measurement]) -> dict[str, Predict]:
        """The released way of the codecs that it knows, as far as it fits into memory."""
        released: dict[str, Predict] = {}
        for measurement in measurements:
            if measurement.error is None:
                codec = released_codec(measurement.configuration.codec)
                with _error_of(measurement, released=True):
                    released[codec] = self._models.released(codec)
        return released

    def _round(
        self, measurements: Sequence[Measurement], released: dict[str, Predict], with_memory: bool, frames: int = 1
    ) -> None:
        """So many frames through one after the other; the first of several finds other weights in the caches.

        Memory is measured once, in a first frame.
        """
        began = time.perf_counter()
        outputs: dict[int, PerceptionOutput] = {}
        for k, measurement in enumerate(measurements):
            if measurement.error is None:
                with _error_of(measurement):
                    for i in range(frames):
                        first = with_memory and not i and measurement.memory is None
                        outputs[k], milliseconds = self._ours(measurement, self._frame + i, first)
                        if i or frames == 1:
                            for stage, values in measurement.milliseconds.items():
                                values.append(milliseconds[stage])
        for codec, predict in released.items():
            same = [k for k in outputs if released_codec(measurements[k].configuration.codec) == codec]
            if not same or measurements[same[0]].released_error:
                continue
            with _error_of(measurements[same[0]], released=True):
                for i in range(frames):
                    output, total = self._timed(predict, measurements[same[0]].configuration, self._frame + i)
                    if i or frames == 1:
                        for k in same:
                            measurements[k].released.append(total)
                for k in same:
                    if measurements[k].configuration.codec == codec:
                        measurements[k].difference = difference(outputs[k], output)
        self._round_seconds = time.perf_counter() - began
        self._frame += frames

    def _ours(
        self, measurement: Measurement, frame: int, with_memory: bool
    ) -> tuple[PerceptionOutput, dict[str, float]]:
        """What is predicted of a frame, and milliseconds by stage."""
        stream = self._streams[measurement.configuration.model]
        before = stream.memory.encoded
        with WorkingMemory(self._device) if with_memory else nullcontext() as memory:
            output, total = self._timed(stream, measurement.configuration, frame, named=True)
        measurement.pictures = stream.memory.encoded - before
        if memory is not None:
            measurement.memory = memory.peak
        return output, {**output.stage_ms, "total": total}

    def _timed(
        self, predict: Predict, configuration: Configuration, frame: int, named: bool = False
    ) -> tuple[PerceptionOutput, float]:
        """What is predicted of this frame, ``named`` as streams want it, and milliseconds until that is on the host."""
        names = {"frame": frame, "next_frame": frame + 1} if named else {}
        arguments = self._clip.arguments(frame, configuration.tasks)
        self._synchronize()
        began = time.perf_counter()
        output = predict(*arguments, tasks=configuration.tasks, num_inference_steps=configuration.steps, **names)
        self._synchronize()
        return output, 1e3 * (time.perf_counter() - began)

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def difference(ours: PerceptionOutput, theirs: PerceptionOutput) -> dict[str, float]:
    """Mean absolute difference: of depth (of 1), of flow in pixels, of masks as a share of all pixels."""
    means: dict[str, float] = {}
    if ours.depth_relative is not None and theirs.depth_relative is not None:
        means["depth"] = float(np.abs(ours.depth_relative - theirs.depth_relative).mean())
    if ours.flow is not None and theirs.flow is not None:
        both = np.isfinite(ours.flow) & np.isfinite(theirs.flow)
        means["flow"] = float(np.abs(ours.flow - theirs.flow)[both].mean()) if both.any() else float("nan")
    if ours.amodal and theirs.amodal:
        pairs = zip(ours.amodal, theirs.amodal, strict=True)
        means["amodal"] = float(np.mean([(a.mask != b.mask).mean() for a, b in pairs]))
    return means


@contextmanager
def _error_of(measurement: Measurement, released: bool = False) -> Iterator[None]:
    """What may happen to one row, or to the released way beside it, is written down and no end to the others."""
    try:
        yield
        return
    except InputError as error:
        message = str(error)
    except (MemoryError, RuntimeError) as error:
        is_memory = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)
        if not is_memory and not measurement.configuration.compiled:
            raise
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        message = "out of memory" if is_memory else f"cannot be compiled here: {first}"
    if released:
        measurement.released_error = message
    else:
        measurement.error = message
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
