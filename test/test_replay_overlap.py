"""Replays read, predict and write at the same time, several frames at once; nobody can tell from the output."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replay_bags import (
    MASKS_TOPIC,
    PERIOD,
    SECOND,
    START,
    BrightnessPipeline,
    Recorded,
    as_pipeline,
    camera,
    floats,
    image,
    labels,
    masks,
    read_bag,
    write_bag,
)
from rosbags.rosbag2 import StoragePlugin

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.replay import ReplaySettings, replay
from diffusion_perception_ros.replay.frames import FrameDecoder
from diffusion_perception_ros.replay.moments import MomentReader
from diffusion_perception_ros.replay.overlap import ReadAhead, WriteBehind
from diffusion_perception_ros.replay.recorder import Recorder


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Frames in two sizes and two segments, some with objects, one of them unusable."""
    random = np.random.default_rng(0)
    sizes = [(24, 32)] * 5 + [(20, 40)] * 3 + [(24, 32)] * 3
    stamps = [START + i * PERIOD for i in range(8)] + [START + i * PERIOD for i in range(3)]
    messages = []
    for i, (size, stamp) in enumerate(zip(sizes, stamps, strict=True)):
        pixels = random.integers(0, 256, (*size, 3), np.uint8)
        encoding = "plaid8" if i == 2 else "rgb8"
        messages.append(Recorded("/camera/image_raw", image(stamp, pixels, encoding), START + i * PERIOD))
    for i in (1, 3, 4):
        shown = labels(*[1] * 8, *[2] * 4, height=24, width=32) if i != 4 else labels(height=24, width=32)
        messages.append(masks(stamps[i], shown, START + i * PERIOD + 1))
    return write_bag(tmp_path / "in", sorted(messages, key=lambda recorded: recorded.log_time))


@pytest.mark.parametrize("batch_size", [2, 3, 20])
def test_frames_may_share_a_batch(source: Path, tmp_path: Path, pipe: PerceptionPipeline, batch_size: int) -> None:
    options: dict[str, Any] = {"visible_masks_topic": MASKS_TOPIC, "include_input": True, "seed": 4}
    alone = replay(source, tmp_path / "alone", pipe, ReplaySettings(batch_size=1, **options))
    together = replay(source, tmp_path / "together", pipe, ReplaySettings(batch_size=batch_size, **options))
    counts = ("frames_processed", "pairs", "masks", "skipped", "omitted", "time_jumps", "messages")
    assert [getattr(alone, name) for name in counts] == [getattr(together, name) for name in counts]
    assert (alone.frames_processed, alone.masks, alone.time_jumps) == (10, 6, 1)  # the stamps of the masks come twice
    a, b = read_bag(tmp_path / "alone"), read_bag(tmp_path / "together")
    assert {topic: [read[:2] for read in reads] for topic, reads in a.items()} == {
        topic: [read[:2] for read in reads] for topic, reads in b.items()
    }
    compared = 0
    for topic, reads in a.items():
        for one, other in zip(reads, b[topic], strict=True):
            if topic.endswith(("depth/relative", "flow/image")):
                np.testing.assert_allclose(floats(one.message), floats(other.message), atol=1e-3)
                compared += 1
            elif topic.endswith("amodal/masks"):
                areas = [[mask.amodal_area for mask in read.message.masks] for read in (one, other)]
                assert areas[0] == areas[1]
    assert compared == 10 + alone.pairs


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_equal_runs_write_equal_bytes(source: Path, tmp_path: Path, pipe: PerceptionPipeline, storage: str) -> None:
    for name in ("one", "two"):
        settings = ReplaySettings(storage=storage, batch_size=3, include_input=True, visible_masks_topic=MASKS_TOPIC)
        replay(source, tmp_path / name, pipe, settings)
    one, two = (sorted((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


class Watched(BrightnessPipeline):
    """Says how many frames are predicted together, and calls back at each batch."""

    def __init__(self, watch: Callable[[int], None] = lambda predicted: None) -> None:
        super().__init__()
        self.batches: list[int] = []
        self._watch = watch

    def batch(self, requests: Sequence[Any], memory: Any = None) -> list[PerceptionOutput]:
        self.batches.append(len(requests))
        self._watch(sum(self.batches))
        return super().batch(requests, memory)


def test_batches_are_as_large_as_asked_for(tmp_path: Path) -> None:
    source = write_bag(tmp_path / "in", camera(7))
    for batch_size, batches in ((1, [1] * 7), (3, [3, 3, 1]), (None, [4, 3])):
        pipe = Watched()
        replay(source, tmp_path / f"{batch_size}", as_pipeline(pipe), ReplaySettings(batch_size=batch_size))
        assert pipe.batches == batches
    with pytest.raises(InputError, match="--batch is 0; give a whole number from 1"):
        ReplaySettings(batch_size=0)


def test_reading_goes_on_but_not_too_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    received = threading.Semaphore(0)
    count = 0
    decode = FrameDecoder.decode

    def counted(self: FrameDecoder, raw: Any) -> Any:
        nonlocal count
        count += 1
        received.release()
        return decode(self, raw)

    ahead = []

    def watch(predicted: int) -> None:
        while count < min(20, predicted + 2):  # the frame after the last one, and one more meanwhile
            assert received.acquire(timeout=10)
        ahead.append(count - predicted)

    monkeypatch.setattr(FrameDecoder, "decode", counted)
    source = write_bag(tmp_path / "in", camera(20))
    replay(source, tmp_path / "out", as_pipeline(Watched(watch)), ReplaySettings(batch_size=2))
    assert max(ahead) <= 2 + 2 + 1  # what waits, the step that is made, and the frame that it needs


def test_writing_goes_on_while_the_next_frames_are_predicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = threading.Semaphore(0)
    write = Recorder.write

    def counted(self: Recorder, *arguments: Any) -> None:
        write(self, *arguments)
        written.release()

    def watch(predicted: int) -> None:
        assert predicted == 1 or written.acquire(timeout=10)

    monkeypatch.setattr(Recorder, "write", counted)
    source = write_bag(tmp_path / "in", camera(5))
    replay(source, tmp_path / "out", as_pipeline(Watched(watch)), ReplaySettings(batch_size=1))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_full_disk_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str, batch_size: int
) -> None:
    write = Recorder.write

    def failing(self: Recorder, *arguments: Any) -> None:
        write(self, *arguments)
        if self.processed == 2:
            self._writer._writer.write = full  # type: ignore[assignment,method-assign]

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Recorder, "write", failing)
    source = write_bag(tmp_path / "in", camera(12))
    pipe = Watched()
    with pytest.raises(InputError, match=r"the output .* cannot be written: No space left on device\."):
        replay(source, tmp_path / "out", as_pipeline(pipe), ReplaySettings(storage=storage, batch_size=batch_size))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_nothing_is_predicted_for_an_output_that_cannot_be(tmp_path: Path) -> None:
    source = write_bag(tmp_path / "in", camera(3))
    (tmp_path / "file").write_text("")
    pipe = Watched()
    with pytest.raises(InputError, match="it is no folder"):
        replay(source, tmp_path / "file" / "out", as_pipeline(pipe))
    assert pipe.batches == []


@pytest.mark.parametrize("error", [RuntimeError, InputError])
def test_an_error_while_reading_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    steps = MomentReader._steps

    def failing(self: MomentReader) -> Iterator[Any]:
        for i, step in enumerate(steps(self)):
            if i == 4:
                raise error("gone.")
            yield step

    monkeypatch.setattr(MomentReader, "_steps", failing)
    source = write_bag(tmp_path / "in", camera(9))
    with pytest.raises(error, match=r"gone\."):
        replay(source, tmp_path / "out", as_pipeline(BrightnessPipeline()), ReplaySettings(batch_size=2))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.filterwarnings("error")
def test_an_interrupt_ends_all_threads(tmp_path: Path, storage: str) -> None:
    """Also where the reader has files open on the side, which SQLite wants closed by the thread that opened them."""
    messages = [*camera(30), *camera(30, "/next"), *[masks(START + i * PERIOD, labels(1), START) for i in range(30)]]
    ordered = sorted(messages, key=lambda recorded: recorded.log_time)
    source = write_bag(tmp_path / "in", ordered, StoragePlugin[storage.upper()])
    options: dict[str, Any] = {"visible_masks_topic": MASKS_TOPIC, "pair_topic": "/next", "storage": storage}

    def interrupt(done: int, total: int) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replay(source, tmp_path / "out", as_pipeline(BrightnessPipeline()), ReplaySettings(**options), interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_long_stretch_without_frames_does_not_pile_up(tmp_path: Path) -> None:
    bad = [
        Recorded("/camera/image_raw", image(START + i, np.zeros((6, 8), np.uint8), "plaid8"), START + i)
        for i in range(1, 40)
    ]
    later = [recorded._replace(log_time=recorded.log_time + SECOND) for recorded in camera(2)]
    seen: list[int] = []
    source = write_bag(tmp_path / "in", [*bad, *later])
    pipe = as_pipeline(BrightnessPipeline())
    summary = replay(source, tmp_path / "out", pipe, progress=lambda done, total: seen.append(done))
    assert seen == sorted(set(seen))
    assert (seen[-1], summary.frames_processed) == (41, 2)


def test_items_come_through_in_order() -> None:
    taken: list[int] = []
    with WriteBehind[int](taken.extend, 2) as behind, ReadAhead(iter(range(50)), 3) as ahead:
        for item in ahead:
            behind.put(item)
    assert taken == list(range(50))


def test_whoever_stops_early_stops_the_others() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    with ReadAhead(endless(), 2) as ahead:
        assert next(ahead) == 0
    assert closed.is_set()

    def picky(items: Iterator[int]) -> None:
        for item in items:
            raise ValueError(item)

    def hand_over(count: int) -> None:
        with WriteBehind(picky, 1) as behind:
            for _ in range(count):
                behind.put(7)

    for count in (1, 100):
        with pytest.raises(ValueError, match="7"):
            hand_over(count)
