"""What a prediction is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.sampling.settings import SamplingSettings


@dataclass(frozen=True)
class PredictSettings(SamplingSettings):
    """The options of a prediction on pictures and videos.

    Attributes:
        next_image: The frame after the only picture among the inputs.
        masks: Visible masks: a label image for the only picture, or a folder of them.
        tasks: None for depth, flow where there is a next frame, amodal where there are masks, and normals.
        overwrite: Replace results that are there already.

    Raises:
        InputError: A value makes no sense.
    """

    next_image: Path | None = None
    masks: Path | None = None
    tasks: tuple[str, ...] | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.tasks is not None and not self.tasks:
            raise InputError("--tasks is empty; name at least one task.")
        if self.tasks and "amodal" in self.tasks and self.masks is None:
            raise InputError("the task 'amodal' needs to know what is visible; give label images with --masks.")

    def chosen_tasks(self, available: tuple[str, ...]) -> tuple[str, ...]:
        """The tasks to run, of those a checkpoint is able to do.

        Tasks that were asked for, by name or with ``--next`` and ``--masks``, stay, so that the pipeline can refuse
        what it is not able to do.
        """
        if self.tasks is not None:
            return tuple(dict.fromkeys(self.tasks))
        wanted = {
            "depth": "depth" in available,
            "flow": "flow" in available or self.next_image,
            "amodal": self.masks,
            "normals": "normals" in available,
        }
        return tuple(task for task, chosen in wanted.items() if chosen)
