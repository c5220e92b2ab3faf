"""What came of a replay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from diffusion_perception_ros.summary import RunSummary


@dataclass(frozen=True, kw_only=True)
class ReplaySummary(RunSummary):
    """Counts and times of a finished replay.

    What was skipped are image messages, which have no results then, label images (``masks_...``) and second frames of
    pairs (``pair_...``).

    Attributes:
        image_topic: The camera that was replayed.
        time_jumps: How many times the stamps of the frames began anew.
        warnings: What the user should know, one sentence each.
        messages: Number of messages written, by topic.
    """

    image_topic: str
    time_jumps: int = 0
    warnings: tuple[str, ...] = ()
    messages: dict[str, int] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """The image topic."""
        return f" on {self.image_topic}"

    def further_rows(self) -> Iterator[tuple[str, str]]:
        """Time jumps and warnings."""
        if self.time_jumps:
            yield "time jumps", str(self.time_jumps)
        for warning in self.warnings:
            yield "warning", warning
