"""Predictions on pictures and videos: opened and checked first, then run with a pipeline."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.media.clips import Clip, Frame, Tally
from diffusion_perception_ros.media.inputs import open_clips
from diffusion_perception_ros.media.results import find_results, write_results
from diffusion_perception_ros.media.settings import PredictSettings
from diffusion_perception_ros.media.summary import PredictSummary
from diffusion_perception_ros.predictions import PerceptionOutput

if TYPE_CHECKING:
    from diffusion_perception_ros.pipeline import PerceptionPipeline

Progress = Callable[[int, int], None]
"""Called with the number of frames read and their (expected) total."""


class PredictJob:
    """Predictions whose inputs and output are checked before anybody loads a checkpoint for them.

    Results of a picture are ``OUT/<picture>_depth.npy`` and so on; those of the frames of a folder or video are in
    ``OUT/<folder or video>/``.

    Args:
        inputs: Pictures, folders of pictures, videos.
        output: The folder for the results; made if need be.
        settings: All options.

    Raises:
        InputError: Inputs, output or settings are unusable.
    """

    def __init__(self, inputs: Sequence[Path], output: Path, settings: PredictSettings) -> None:
        self._output, self._settings = output, settings
        self._clips, self._labels = open_clips(inputs, settings.next_image, settings.masks)
        if "flow" in (settings.tasks or ()) and not any(clip.pairs for clip in self._clips):
            raise InputError(
                "the task 'flow' needs two frames; give the second one with --next, or name a folder or a video."
            )
        self._earlier = self._check_output()
        self._color_range = 0.0
        self._tally = Tally()
        self._processed = self._pairs = self._masks = self._files = 0

    def run(self, pipe: PerceptionPipeline, progress: Progress | None = None) -> PredictSummary:
        """Process all frames and write the results.

        Raises:
            InputError: The pipeline refuses the settings, the output cannot be written, or nothing came out.
        """
        began = time.perf_counter()
        tally = self._tally
        tasks = self._settings.chosen_tasks(tuple(pipe.metadata.tasks))
        total = sum(clip.count for clip in self._clips)
        for clip in self._clips:
            self._color_range = 0.0
            for frame in clip.frames(tally):
                self._process(clip, frame, tasks, pipe)
                if progress:
                    progress(tally.received, max(total, tally.received))
            if progress:
                progress(tally.received, max(total, tally.received))
        if not self._processed:
            raise InputError(tally.problems[0] if tally.problems else "there is nothing to do for the chosen tasks.")
        if self._labels is not None and self._labels.count > self._labels.used:
            tally.omitted["masks_without_frame"] = self._labels.count - self._labels.used
        return PredictSummary(
            output=self._output,
            tasks=tasks,
            frames_total=tally.received,
            frames_processed=self._processed,
            pairs=self._pairs,
            masks=self._masks,
            files=self._files,
            seconds=time.perf_counter() - began,
            checkpoint=pipe.metadata.name,
            checkpoint_is_random=pipe.metadata.is_random,
            skipped=dict(tally.skipped),
            omitted=dict(tally.omitted),
            input_cut=tally.input_cut,
        )

    def _process(self, clip: Clip, frame: Frame, tasks: tuple[str, ...], pipe: PerceptionPipeline) -> None:
        labels = frame.labels if "amodal" in tasks else None
        objects = labels is not None and bool(labels.any())
        possible = {"flow": frame.next_image is not None, "amodal": objects}
        chosen = tuple(task for task in tasks if possible.get(task, True))
        output = PerceptionOutput()
        if chosen:
            output = pipe(
                frame.image,
                frame.next_image if "flow" in chosen else None,
                labels if objects else None,
                tasks=chosen,
                **self._settings.arguments,
            )
        if labels is not None and not objects:
            output = replace(output, amodal=[])  # the label image says that there are no objects
        if not self._color_range:
            # One range for a clip, so that the same colour means the same in all its frames.
            self._color_range = max(8.0, 0.05 * math.hypot(*frame.image.shape[:2]))
        # Only now: a setting that the pipeline refuses must not cost anybody the results of before.
        while self._earlier:
            self._earlier.pop().unlink(missing_ok=True)
        files = write_results(self._folder(clip), frame.name, frame.image, output, self._color_range)
        self._processed += files > 0
        self._pairs += output.flow is not None
        self._masks += len(output.amodal or ())
        self._files += files

    def _folder(self, clip: Clip) -> Path:
        return self._output / clip.name if clip.has_folder else self._output

    def _check_output(self) -> list[Path]:
        """Results of an earlier run, which are to be replaced.

        Raises:
            InputError: They are not to be replaced, or are inputs of this run.
        """
        if self._output.exists() and not self._output.is_dir():
            raise InputError(f"the output {self._output} is a file; name a folder.")
        named = [clip.path for clip in self._clips] + [self._settings.next_image, self._settings.masks]
        inputs = {path.resolve() for path in named if path is not None}
        earlier: list[Path] = []
        for clip in self._clips:
            folder = self._folder(clip)
            if clip.has_folder and folder.resolve() in inputs:
                raise InputError(
                    f"the results of {clip.path} would lie among the inputs, in {folder}; choose another --out."
                )
            earlier += find_results(folder, None if clip.has_folder else clip.name)
        for path in earlier:
            if path.resolve() in inputs:
                raise InputError(f"{path} is an input, but also the name of a result; choose another --out.")
        if earlier and not self._settings.overwrite:
            raise InputError(
                f"the output {earlier[0]} exists already; choose another --out, or replace it with --overwrite."
            )
        return earlier
