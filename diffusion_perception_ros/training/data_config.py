"""Where a run's samples come from, as written in its YAML file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusion_perception_ros.errors import InputError

# The fields of `Truth` that a kind of source can know.
SOURCES: Mapping[str, frozenset[str]] = {
    "scenes": frozenset({"depth", "flow", "flow_valid", "visible", "amodal", "normals"}),
    "hypersim": frozenset({"depth", "normals"}),
    "chairs": frozenset({"flow", "flow_valid"}),
    "pix2gestalt": frozenset({"visible", "amodal", "appearance"}),
}


@dataclass(frozen=True)
class SourceConfig:
    """One source of samples.

    Attributes:
        kind: ``scenes``, which are rendered, or a dataset in its official layout: ``hypersim``, ``chairs`` or
            ``pix2gestalt``.
        path: The folder of a dataset.
        tasks: Which of the run's tasks learn from it; by default all for which it can know the truth.
        share: Of a task's samples, relative to the other sources of that task.
    """

    kind: str
    path: Path | None = None
    tasks: tuple[str, ...] | None = None
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in SOURCES:
            raise InputError(f"the kind {self.kind!r} is unknown; use one of {', '.join(SOURCES)}.")
        if self.kind == "scenes" and self.path is not None:
            raise InputError("scenes are rendered and have no path; leave it out.")
        if self.kind != "scenes" and self.path is None:
            raise InputError(f"{self.kind} needs a path, the folder of the dataset.")
        if not (math.isfinite(self.share) and self.share > 0):
            raise InputError(f"share is {self.share}; give a number above 0.")


@dataclass(frozen=True)
class DataConfig:
    """Frame pairs of generated scenes, kept on disk, and other sources of samples.

    Attributes:
        sources: Where samples come from.
        pairs: How many pairs of scenes there are to draw from at any time.
        refresh_steps: After so many steps the oldest ``shard_size`` pairs make room for new ones; 0 for never.
        shard_size: Pairs in a file.
        first_seed: Of the scenes.
        folder: Where the files are; below the output by default. Runs can share it.
        workers: Processes that render, and threads that read datasets.
        flip: Probability of a mirrored sample.
        photometric: Strength of changes in brightness, contrast and colour; 0 for none.
    """

    sources: tuple[SourceConfig, ...] = (SourceConfig("scenes"),)
    pairs: int = 0
    refresh_steps: int = 0
    shard_size: int = 256
    first_seed: int = 0
    folder: Path | None = None
    workers: int = 2
    flip: float = 0.5
    photometric: float = 1.0


def assign_sources(sources: Sequence[SourceConfig], truths: Mapping[str, frozenset[str]]) -> dict[str, tuple[int, ...]]:
    """Which sources each task learns from.

    Args:
        sources: Of the run.
        truths: By task of the run, the fields of ``Truth`` that its targets are made from.

    Returns:
        Numbers of sources, by task.

    Raises:
        InputError: A source names a task that it cannot serve, or a task has no source.
    """
    for number, source in enumerate(sources):
        for task in source.tasks or ():
            if task not in truths:
                raise InputError(f"data.sources[{number}] is for task {task!r}, which the run does not have.")
            if not truths[task] <= SOURCES[source.kind]:
                missing = ", ".join(sorted(truths[task] - SOURCES[source.kind]))
                raise InputError(
                    f"data.sources[{number}] cannot serve task {task!r}: {source.kind} knows no {missing}; "
                    "leave the task out there."
                )
    assigned = {
        task: tuple(
            number
            for number, source in enumerate(sources)
            if (task in source.tasks if source.tasks is not None else fields <= SOURCES[source.kind])
        )
        for task, fields in truths.items()
    }
    for task, numbers in assigned.items():
        if not numbers:
            able = [kind for kind, known in SOURCES.items() if truths[task] <= known]
            raise InputError(
                f"none of data.sources serves task {task!r}; add one"
                + (f", such as {' or '.join(able)}." if able else " that knows its truth.")
            )
    return assigned
