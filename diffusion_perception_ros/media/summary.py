"""What came of a prediction on pictures and videos."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class PredictSummary:
    """Counts and times of a finished prediction.

    Attributes:
        output: The folder with the results.
        frames_total: Pictures and video frames met.
        frames_processed: Those with results.
        pairs: Frame pairs with flow.
        masks: Amodal masks written.
        files: Files written.
        seconds: Wall-clock time.
        checkpoint: The checkpoint's name.
        checkpoint_is_random: Its weights were drawn at random, so the results mean nothing.
        skipped: Pictures and label images that could not be used, by reason.
        omitted: Parts of results that could not be made, by reason.
        input_cut: What is missing at the end of a video, or None.
    """

    output: Path
    frames_total: int
    frames_processed: int
    pairs: int
    masks: int
    files: int
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
        """0 if everything was processed, 3 if something was skipped or a video was cut."""
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
        rows = [
            ("frames", f"{self.frames_processed} of {self.frames_total}"),
            ("flow pairs", str(self.pairs)),
            ("amodal masks", str(self.masks)),
            ("skipped", _counts(self.skipped)),
            ("omitted", _counts(self.omitted)),
        ]
        if self.input_cut:
            rows.append(("input cut", self.input_cut))
        rows += [
            ("time", f"{self.seconds:.1f} s, {self.frames_per_second:.2f} frames/s"),
            ("output", f"{self.output}, {self.files} files"),
        ]
        if self.checkpoint_is_random:
            rows.append(("checkpoint", f"{self.checkpoint}: weights are random, not trained; the results mean nothing"))
        return "\n".join(f"{name:<13} {value}" for name, value in rows)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items())) or "none"
