"""What came of a prediction on pictures and videos."""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_perception_ros.summary import RunSummary


@dataclass(frozen=True, kw_only=True)
class PredictSummary(RunSummary):
    """Counts and times of a finished prediction.

    Attributes:
        files: Files written.
    """

    files: int

    @property
    def extent(self) -> str:
        """The number of files."""
        return f", {self.files} files"
