"""What came of a replay."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from diffusion_perception_ros.replay.wording import counts_by_reason


@dataclass(frozen=True)
class ReplaySummary:
    """Counts and times of a finished replay.

    Attributes:
        output: The output bag.
        image_topic: The camera that was replayed.
        tasks: Names of the tasks that were run.
        frames_total: Image messages in the input.
        frames_processed: Frames with results.
        pairs: Frame pairs with flow.
        masks: Amodal masks written.
        skipped: Messages that could not be used, by reason: image messages, which have no results then, label images
            (``masks_...``) and second frames of pairs (``pair_...``).
        omitted: Parts of results that could not be made, by reason: pairs not formed, label images that belong to
            no frame.
        time_jumps: How many times the stamps of the frames began anew.
        input_cut: What is missing or damaged in the input, or None.
        warnings: What the user should know, one sentence each.
        seconds: Wall-clock time of the replay.
        checkpoint: The checkpoint's name.
        checkpoint_is_random: Its weights were drawn at random, so the results mean nothing.
        messages: Number of messages written, by topic.
    """

    output: Path
    image_topic: str
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
    time_jumps: int = 0
    input_cut: str | None = None
    warnings: tuple[str, ...] = ()
    messages: dict[str, int] = field(default_factory=dict)

    @property
    def frames_per_second(self) -> float:
        """Processed frames per second of wall-clock time."""
        return self.frames_processed / self.seconds if self.seconds else 0.0

    @property
    def exit_status(self) -> int:
        """0 if every frame was processed, 3 if frames were skipped or the input was cut."""
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
        rows = [("frames", f"{self.frames_processed} of {self.frames_total} on {self.image_topic}")]
        if "flow" in self.tasks:
            rows.append(("flow pairs", str(self.pairs)))
        if "amodal" in self.tasks:
            rows.append(("amodal masks", str(self.masks)))
        rows += [
            ("skipped", counts_by_reason(self.skipped) or "none"),
            ("omitted", counts_by_reason(self.omitted) or "none"),
        ]
        if self.time_jumps:
            rows.append(("time jumps", str(self.time_jumps)))
        if self.input_cut:
            rows.append(("input cut", self.input_cut))
        rows += [
            ("time", f"{self.seconds:.1f} s, {self.frames_per_second:.2f} frames/s"),
            ("output", str(self.output)),
        ]
        rows += [("warning", warning) for warning in self.warnings]
        if self.checkpoint_is_random:
            rows.append(("checkpoint", f"{self.checkpoint}: weights are random, not trained; the results mean nothing"))
        return "\n".join(f"{name:<13} {value}" for name, value in rows)
