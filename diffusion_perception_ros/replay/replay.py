"""A replay: opened and checked first, then run with a pipeline."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.replay.engine import Engine, Progress
from diffusion_perception_ros.replay.reader import BagReader
from diffusion_perception_ros.replay.settings import ReplaySettings
from diffusion_perception_ros.replay.summary import ReplaySummary
from diffusion_perception_ros.replay.topics import choose_topics
from diffusion_perception_ros.replay.writer import BagWriter, check_output

if TYPE_CHECKING:
    from diffusion_perception_ros.pipeline import PerceptionPipeline


def replay(
    source: Path,
    output: Path,
    pipe: PerceptionPipeline,
    settings: ReplaySettings | None = None,
    progress: Progress | None = None,
) -> ReplaySummary:
    """Turn a bag of camera images into a bag of depth, flow and amodal masks.

    Args:
        source: A rosbag2 folder, or a ``.mcap`` or ``.db3`` file.
        output: The folder of the new bag; it appears when it is complete.
        pipe: Makes the predictions.
        settings: All options.
        progress: Called with the number of image messages that are done with, and the total.

    Raises:
        InputError: Input, output or settings are unusable, or not a single result came out.
    """
    with Replay(source, output, settings or ReplaySettings()) as job:
        return job.run(pipe, progress)


class Replay:
    """A replay whose input and output are checked before anybody loads a checkpoint for it.

    Args:
        source: A rosbag2 folder, or a ``.mcap`` or ``.db3`` file.
        output: The folder of the new bag.
        settings: All options.

    Attributes:
        frames_expected: Number of image messages in the input.

    Raises:
        InputError: Input, output or settings are unusable.
    """

    def __init__(self, source: Path, output: Path, settings: ReplaySettings) -> None:
        self._output, self._settings = output, settings
        self._bag = BagReader(source)
        try:
            check_output(source, output, settings.overwrite)
            self._topics = choose_topics(self._bag, settings)
            self.frames_expected = self._bag.topics[self._topics.image].count
            clashing = [topic for topic in self._topics.all if topic.startswith(settings.namespace + "/")]
            if settings.include_input and clashing:
                raise InputError(
                    f"--include-input would mix {clashing[0]} with the results under {settings.namespace}; "
                    "choose another --namespace."
                )
        except BaseException:
            self.close()
            raise

    def run(self, pipe: PerceptionPipeline, progress: Progress | None = None) -> ReplaySummary:
        """Process all frames and write the bag.

        Raises:
            InputError: The pipeline refuses the settings, the output cannot be written, or nothing came out.
        """
        began = time.perf_counter()
        writer = BagWriter(self._output, self._settings.storage, self._settings.overwrite)
        engine = Engine(self._bag, self._topics, pipe, self._settings, writer)
        engine.run(progress or (lambda done, total: None))
        warnings = []
        if self._topics.camera_info is None and "depth" in engine.tasks:
            warnings.append(f"no camera_info beside {self._topics.image}, so depth/camera_info is not written")
        warnings += [f"{count} frames with {reason}" for reason, count in engine.reduced.items()]
        return ReplaySummary(
            output=self._output,
            image_topic=self._topics.image,
            tasks=engine.tasks,
            frames_total=engine.read.decoder.received,
            frames_processed=engine.recorder.processed,
            pairs=engine.recorder.pairs,
            masks=engine.recorder.masks,
            seconds=time.perf_counter() - began,
            checkpoint=pipe.metadata.name,
            checkpoint_is_random=pipe.metadata.is_random,
            skipped=dict(engine.skipped),
            omitted=dict(engine.read.omitted),
            time_jumps=engine.read.decoder.time_jumps,
            input_cut="; ".join(self._bag.damage) or None,
            warnings=tuple(warnings),
            messages=dict(writer.counts),
        )

    def close(self) -> None:
        """Close the input."""
        self._bag.close()

    def __enter__(self) -> Replay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
