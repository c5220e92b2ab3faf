"""How long a prediction will take: measured once, corrected by every frame."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from diffusion_perception_ros.budget.estimate import UpperEstimate

STAGES = ("encode", "denoise", "decode")

# Of a picture or sample, where nothing was measured: so little that it decides nothing.
_UNKNOWN_MS = 1e-6


@dataclass(frozen=True)
class TaskWork:
    """What one task asks of the networks.

    Attributes:
        samples: Samples of one ensemble member: one for each label of each prompt.
        pictures: Prompt pictures to encode.
    """

    samples: int
    pictures: int


@dataclass(frozen=True)
class Work:
    """What a batch of requests asks of the networks.

    Attributes:
        frames: Requests.
        tasks: By name, in order of importance.
        max_batch_size: Most samples that go through the transformer at once.
    """

    frames: int
    tasks: Mapping[str, TaskWork]
    max_batch_size: int

    def samples(self, tasks: Collection[str]) -> int:
        """Of one ensemble member."""
        return sum(self.tasks[name].samples for name in tasks)

    def pictures(self, tasks: Collection[str]) -> int:
        """To encode."""
        return self.frames + sum(self.tasks[name].pictures for name in tasks)

    def batches(self, samples: int) -> tuple[int, int]:
        """In how many parts samples go through the transformer, and how large these are at most."""
        parts = max(1, math.ceil(samples / self.max_batch_size))
        return parts, math.ceil(samples / parts)


Table = dict[int, float]
"""Milliseconds by number of items."""


@dataclass
class CostModel:
    """Milliseconds of each stage, between what was measured interpolated, times what frames took compared with that.

    Pictures and samples cost the same whatever they are about; what becomes of decoded samples differs by task.

    Attributes:
        encode: By number of pictures.
        step: One evaluation of the transformer, by number of samples at once.
        decode: By task and whether it takes a single step, which has decoders of its own; by number of samples.
        corrections: By stage: measured time as a multiple of the one predicted from the tables.
    """

    encode: Table = field(default_factory=dict)
    step: Table = field(default_factory=dict)
    decode: dict[tuple[str, bool], Table] = field(default_factory=dict)
    corrections: dict[str, UpperEstimate] = field(
        default_factory=lambda: {stage: UpperEstimate(1.0) for stage in STAGES}
    )

    def predict(self, work: Work, tasks: Collection[str], steps: int, members: int) -> float:
        """Milliseconds of these tasks."""
        ms = self._uncorrected(work, tasks, steps, members)
        return sum(ms[stage] * self.corrections[stage].value for stage in STAGES)

    def calibrate(
        self, work: Work, tasks: Collection[str], steps: int, members: int, stage_ms: Mapping[str, float]
    ) -> None:
        """Enter a measurement into the tables; of several the fastest, which was disturbed least.

        Args:
            work: What was asked.
            tasks: What was computed of it.
            steps: Evaluations of the transformer.
            members: Of the ensemble.
            stage_ms: As in ``PerceptionOutput``.
        """
        samples = members * work.samples(tasks)
        parts, size = work.batches(samples)
        _enter(self.encode, work.pictures(tasks), stage_ms["encode"])
        _enter(self.step, size, stage_ms["denoise"] / (steps * parts))
        if len(tasks) == 1:
            (name,) = tasks
            _enter(self.decode.setdefault((name, steps == 1), {}), samples, stage_ms["decode"])

    def observe(
        self, work: Work, tasks: Collection[str], steps: int, members: int, stage_ms: Mapping[str, float]
    ) -> None:
        """Correct the predictions by a frame's measured times; the arguments are those of ``calibrate``."""
        predicted = self._uncorrected(work, tasks, steps, members)
        for stage, correction in self.corrections.items():
            if stage in stage_ms:
                correction.add(stage_ms[stage] / predicted[stage])

    def _uncorrected(self, work: Work, tasks: Collection[str], steps: int, members: int) -> dict[str, float]:
        parts, size = work.batches(members * work.samples(tasks))
        return {
            "encode": _interpolate(self.encode, work.pictures(tasks)),
            "denoise": steps * parts * _interpolate(self.step, size),
            "decode": sum(
                _interpolate(self._decode(name, steps == 1), members * work.tasks[name].samples) for name in tasks
            ),
        }

    def _decode(self, name: str, is_single_step: bool) -> Table:
        """Of a task; of one that was not calibrated that of the slowest."""
        known = self.decode.get((name, is_single_step)) or self.decode.get((name, not is_single_step))
        return known or max(self.decode.values(), key=lambda table: _interpolate(table, 1), default={})


def _enter(table: Table, items: int, ms: float) -> None:
    table[items] = max(_UNKNOWN_MS, min(ms, table.get(items, math.inf)))


def _interpolate(table: Table, items: int) -> float:
    """Linear between neighbours, and never less for more items.

    Beyond the largest number that was measured it is in proportion to it, below the smallest the same as that.
    """
    if not table:
        return _UNKNOWN_MS * max(1, items)
    below_size, below = 0, 0.0
    for size in sorted(table):
        ms = max(below, table[size])
        if size >= items:
            if not below_size:
                return ms
            return below + (ms - below) * (items - below_size) / (size - below_size)
        below_size, below = size, ms
    return below * items / below_size
