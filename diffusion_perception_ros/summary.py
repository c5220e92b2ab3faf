"""What came of a run over many frames, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """Counts and times of a finished run.

    Attributes:
        output: Where the results are.
        tasks: Names of the tasks that were run.
        frames_total: Frames in the input.
        frames_processed: Those with results.
        pairs: Frame pairs with flow.
        masks: Amodal masks written.
        seconds: Wall-clock time.
        checkpoint: The checkpoint's name.
        checkpoint_is_random: Its weights were drawn at random, so the results mean nothing.
        skipped: What could not be used, by reason.
        omitted: Parts of results that could not be made, by reason.
        input_cut: What is missing or damaged in the input, or None.
    """

    output: Path
    tasks: tuple[str, ...]
    frames_total: int
    frames_processed: int
    pairs: int
    masks: int
    seconds: float
    checkpoint: str
    checkpoint_is_random: bool
    skipped: dict[str, int] = field(default_factory=dict)
    omitted: dict[str, int] = field(default_factory=dict)
    input_cut: str | None = None

    @property
    def frames_per_second(self) -> float:
        """Processed frames per second of wall-clock time."""
        return self.frames_processed / self.seconds if self.seconds else 0.0

    @property
    def exit_status(self) -> int:
        """0 if everything was processed, 3 if something was skipped or the input was cut."""
        return 3 if self.skipped or self.input_cut else 0

    def to_json(self) -> str:
        """One JSON object on one line."""
        values = asdict(self)
        values["output"] = str(self.output)
        values["frames_per_second"] = self.frames_per_second
        values["exit_status"] = self.exit_status
        return json.dumps(values)

    def to_text(self) -> str:
        """A small table for the terminal."""
        return "\n".join(f"{name:<13} {value}" for name, value in self.rows())

    def rows(self) -> Iterator[tuple[str, str]]:
        """The lines of the table: name and value."""
        yield "frames", f"{self.frames_processed} of {self.frames_total}{self.source}"
        if "flow" in self.tasks:
            yield "flow pairs", str(self.pairs)
        if "amodal" in self.tasks:
            yield "amodal masks", str(self.masks)
        yield "skipped", counts_by_reason(self.skipped) or "none"
        yield "omitted", counts_by_reason(self.omitted) or "none"
        yield from self.further_rows()
        if self.input_cut:
            yield "input cut", self.input_cut
        yield "time", f"{self.seconds:.1f} s, {self.frames_per_second:.2f} frames/s"
        yield "output", f"{self.output}{self.extent}"
        if self.checkpoint_is_random:
            yield "checkpoint", f"{self.checkpoint}: weights are random, not trained; the results mean nothing"

    @property
    def source(self) -> str:
        """Where the frames are from, to follow their number."""
        return ""

    @property
    def extent(self) -> str:
        """How much was written, to follow the output's name."""
        return ""

    def further_rows(self) -> Iterator[tuple[str, str]]:
        """What only some runs have to say."""
        yield from ()


def counts_by_reason(counts: Mapping[str, int]) -> str:
    """``reason 3, other_reason 1``."""
    return ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
