"""The demo: scenes are recorded as a bag and replayed, and what came out is compared with the truth."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from diffusion_perception_ros import __version__
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.evaluation.datasets import Bag, BagTopics
from diffusion_perception_ros.evaluation.evaluate import evaluate
from diffusion_perception_ros.evaluation.recorded import RecordedPredictions
from diffusion_perception_ros.evaluation.report import PROTOCOL, Report
from diffusion_perception_ros.evaluation.samples import Sample
from diffusion_perception_ros.evaluation.sheets.sample_sheet import sample_sheet
from diffusion_perception_ros.media.pictures import write_picture
from diffusion_perception_ros.replay import Replay, ReplaySettings, ReplaySummary
from diffusion_perception_ros.replay.scene_bag import MASKS_TOPIC, record_scenes
from diffusion_perception_ros.replay.writer import BagWriter, check_output
from diffusion_perception_ros.scenes import EVALUATION_SEED

if TYPE_CHECKING:
    from diffusion_perception_ros.pipeline import PerceptionPipeline

HEIGHT, WIDTH = 144, 192
FRAME_GAP = 1.0
"""Seconds. Frames of one scene are less apart, those of two scenes more."""
_TITLE = "One bag in: depth, motion and hidden shape out"
_SEQUENCES = 8
_ROWS = 8


@dataclass(frozen=True)
class DemoSettings:
    """What is recorded.

    Attributes:
        scenes: How many, from the first seed on that is never trained on.
        frames: Of each scene.

    Raises:
        InputError: A value makes no sense.
    """

    scenes: int = 24
    frames: int = 4

    def __post_init__(self) -> None:
        if self.scenes < 1:
            raise InputError(f"--scenes is {self.scenes}; give at least 1.")
        if self.frames < 2:
            raise InputError(f"--frames is {self.frames}; flow needs at least 2.")

    @property
    def seeds(self) -> range:
        """Of the scenes."""
        return range(EVALUATION_SEED, EVALUATION_SEED + self.scenes)


@dataclass(frozen=True)
class DemoResult:
    """What came of it.

    Attributes:
        summary: Counts and times of the replay.
        text: The table, as in ``report.txt``.
        seconds: Wall-clock time of everything.
    """

    summary: ReplaySummary
    text: str
    seconds: float


def run_demo(output: Path, pipe: PerceptionPipeline, settings: DemoSettings) -> DemoResult:
    """Record scenes, replay them, compare the result with the truth, and draw a contact sheet.

    ``output`` gets the bags ``scenes`` (with the truth) and ``predictions``, ``contact_sheet.png``, ``report.json`` and
    ``report.txt``.

    Args:
        output: The folder for all of it; what an earlier run left there is replaced.
        pipe: Makes the predictions.
        settings: What is recorded.

    Raises:
        InputError: The output cannot be written.
    """
    began = time.perf_counter()
    scenes, predictions = output / "scenes", output / "predictions"
    check_output(predictions, scenes, overwrite=True)
    check_output(scenes, predictions, overwrite=True)
    with BagWriter(scenes, "mcap", overwrite=True) as bag, _bar("recording", settings) as bar:
        record_scenes(bag, settings.seeds, settings.frames, (HEIGHT, WIDTH), progress=bar.update)
    summary = _replay(scenes, predictions, pipe, settings)
    dataset = Bag(scenes, BagTopics(), sequences=_SEQUENCES)
    with RecordedPredictions(predictions) as predict:
        with _bar("comparing", settings) as bar:
            evaluation = evaluate(predict, _counted(dataset, bar), predict.tasks, dataset.sequences())
        report = Report(
            pipe.metadata.name,
            evaluation,
            {
                **dataset.settings,
                "samples": len(dataset),
                **predict.settings,
                "is_random": pipe.metadata.is_random,
                "seeds": [settings.seeds[0], settings.seeds[-1]],
                "version": __version__,
                **PROTOCOL,
            },
        )
        rows = _first_frames(dataset, settings)
        notes = _notes(pipe, summary, settings)
        sheet = sample_sheet(_TITLE, notes, rows, predict, pipe.metadata, evaluation, total="all frames")
    write_picture(output / "contact_sheet.png", sheet)
    text = report.to_text()
    if pipe.metadata.is_random:
        text += "\n\nThe weights are random, not trained: these numbers mean nothing yet."
    _write(output / "report.json", report.to_json())
    _write(output / "report.txt", text)
    return DemoResult(summary, text, time.perf_counter() - began)


def _replay(scenes: Path, predictions: Path, pipe: PerceptionPipeline, settings: DemoSettings) -> ReplaySummary:
    options = ReplaySettings(
        visible_masks_topic=MASKS_TOPIC, max_frame_gap=FRAME_GAP, include_input=True, overwrite=True
    )
    with Replay(scenes, predictions, options) as job, _bar("replaying", settings) as bar:
        return job.run(pipe, lambda done, total: bar.update(done - bar.n))


def _first_frames(dataset: Bag, settings: DemoSettings) -> Iterator[tuple[str, Sample]]:
    """The first frame of each of the first scenes, which nobody chose for how they look."""
    for number, sample in enumerate(dataset):
        scene, frame = divmod(number, settings.frames)
        if scene == _ROWS:
            return
        if frame == 0:
            yield f"scene {settings.seeds[scene]}", sample


def _notes(pipe: PerceptionPipeline, summary: ReplaySummary, settings: DemoSettings) -> list[str]:
    metadata = pipe.metadata
    steps = f"{metadata.num_inference_steps} step" + ("s" if metadata.num_inference_steps > 1 else "")
    return [
        f"{settings.scenes * settings.frames} frames of {settings.scenes} generated scenes that training never uses; "
        f"here the first frames of the first {min(settings.scenes, _ROWS)}, not chosen for their looks",
        f"checkpoint {metadata.name}   |   {metadata.sampler}, {steps}   |   "
        f"{summary.frames_per_second:.1f} frames/s on {pipe.device}   |   diffusion_perception_ros {__version__}",
    ]


def _counted(dataset: Bag, bar: tqdm[None]) -> Iterator[Sample]:
    for sample in dataset:
        yield sample
        bar.update()


def _bar(what: str, settings: DemoSettings) -> tqdm[None]:
    return tqdm(total=settings.scenes * settings.frames, desc=what, unit="frame", dynamic_ncols=True, disable=None)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from None
