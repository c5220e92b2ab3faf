"""Running a job over many frames: a progress bar while it lasts, its summary afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from diffusion_perception_ros.pipeline import PerceptionPipeline
    from diffusion_perception_ros.summary import RunSummary


class Job(Protocol):
    """What can be run with a pipeline, and says how far it is: frames done, and their total."""

    def run(self, pipe: PerceptionPipeline, progress: Callable[[int, int], None]) -> RunSummary:
        """Process all frames."""


def run_job(job: Job, pipe: PerceptionPipeline, as_json: bool, total: int | None = None) -> int:
    """Run it and print what came of it; returns the exit status.

    Args:
        job: A replay or a prediction.
        pipe: Makes the predictions.
        as_json: Print one JSON object on standard output and nothing else, instead of a table on standard error.
        total: Number of frames, as far as it is known beforehand.
    """
    from tqdm import tqdm

    with tqdm(total=total, unit="frame", dynamic_ncols=True, disable=True if as_json else None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        summary = job.run(pipe, progress)
    if as_json:
        print(summary.to_json())
    else:
        print(summary.to_text(), file=sys.stderr)
    return summary.exit_status
