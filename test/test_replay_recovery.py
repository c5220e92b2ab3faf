"""Bags that are not what they declare: cut, with a log beside them, or with fewer messages."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
import zstandard
from replay_bags import (
    IMAGE_TOPIC,
    JAZZY,
    START,
    BrightnessPipeline,
    Recorded,
    as_pipeline,
    camera,
    image,
    picture,
    write_bag,
)
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.replay import ReplaySettings, replay
from diffusion_perception_ros.replay.bag import RawMessage
from diffusion_perception_ros.replay.reader import BagReader


def frames(count: int = 4, height: int = 60, width: int = 80) -> list[Recorded]:
    """Larger than a page of SQLite."""
    return [Recorded(IMAGE_TOPIC, image(START + i, picture(i, height, width)), START + i) for i in range(count)]


def raw(recorded: Recorded) -> RawMessage:
    kind = recorded.message.__msgtype__
    return RawMessage(recorded.topic, kind, recorded.log_time, bytes(JAZZY.serialize_cdr(recorded.message, kind)))


def read_all(path: Path) -> tuple[list[RawMessage], list[str]]:
    with BagReader(path) as bag:
        return list(bag.messages(list(bag.topics))), bag.damage


@pytest.mark.parametrize("missing", [1, 100, 4000, 4095, 4096, 5000])
def test_a_database_cut_near_its_end(tmp_path: Path, missing: int) -> None:
    bag = write_bag(tmp_path / "bag", frames(), StoragePlugin.SQLITE3)
    cut = tmp_path / "cut.db3"
    cut.write_bytes((bag / "bag.db3").read_bytes()[:-missing])
    messages, damage = read_all(cut)
    assert messages == [raw(frame) for frame in frames()][: len(messages)]
    assert len(messages) >= 3
    assert damage == [f"cut.db3 ends at byte {cut.stat().st_size}, before the end of its last page"]


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    """A bag whose recorder was killed: two messages are in the database, two in the log beside it."""
    whole = write_bag(tmp_path / "whole", frames(2), StoragePlugin.SQLITE3) / "whole.db3"
    bag = tmp_path / "bag"
    bag.mkdir()
    with sqlite3.connect(whole, isolation_level=None) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA wal_autocheckpoint=0")
        for message in (raw(frame) for frame in frames()[2:]):
            row = (message.log_time, message.data)
            database.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES(1, ?, ?)", row)
        for suffix in ("", "-wal"):
            shutil.copy(f"{whole}{suffix}", bag / f"bag.db3{suffix}")
    database.close()
    return bag


@pytest.mark.parametrize("bare", [True, False])
def test_what_a_write_ahead_log_holds_is_read(logged: Path, bare: bool) -> None:
    before = {path.name: path.read_bytes() for path in logged.iterdir()}
    assert read_all(logged / "bag.db3" if bare else logged) == ([raw(frame) for frame in frames()], [])
    assert {path.name: path.read_bytes() for path in logged.iterdir()} == before


def test_a_log_that_cannot_be_applied_is_said(logged: Path) -> None:
    path = logged / "bag.db3"
    path.write_bytes(path.read_bytes()[:-100])
    messages, damage = read_all(logged)
    assert messages == [raw(frame) for frame in frames()][: len(messages)]
    assert damage[0] == "bag.db3-wal cannot be applied"


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_fewer_messages_than_declared_are_damage(tmp_path: Path, storage: StoragePlugin) -> None:
    bag = write_bag(tmp_path / "bag", frames(3), storage)
    metadata = bag / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("message_count: 3", "message_count: 5"))
    summary = replay(bag, tmp_path / "out", as_pipeline(BrightnessPipeline()), ReplaySettings())
    assert summary.input_cut == f"{IMAGE_TOPIC} has only 3 of 5 messages"
    assert summary.exit_status == 3


@pytest.mark.parametrize("counts", ["", "12", "[1]", "[{topic_metadata: {name: a}, message_count: many}]"])
def test_metadata_with_unreadable_counts_still_lists_the_files(tmp_path: Path, counts: str) -> None:
    bag = write_bag(tmp_path / "bag", camera(2))
    (bag / "metadata.yaml").write_text(
        f"rosbag2_bagfile_information:\n  relative_file_paths: [bag.mcap]\n  topics_with_message_count: {counts}\n"
    )
    assert read_all(bag) == ([raw(frame) for frame in camera(2)], [])


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_a_compressed_file_that_was_cut_is_named(tmp_path: Path, storage: StoragePlugin) -> None:
    large = frames(4, 240, 320)  # so that the compressor makes several blocks
    bag = write_bag(tmp_path / "bag", large, storage, CompressionMode.FILE)
    (packed,) = bag.glob("*.zstd")
    # Without an end of the frame; all of the content is there.
    content = zstandard.ZstdDecompressor().decompressobj().decompress(packed.read_bytes())
    compressor = zstandard.ZstdCompressor().compressobj()
    flushed = compressor.compress(content) + compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    packed.write_bytes(flushed)
    assert read_all(bag) == ([raw(frame) for frame in large], [f"{packed.name} is cut off"])
    packed.write_bytes(flushed[: len(flushed) // 2])
    messages, damage = read_all(bag)
    assert messages == [raw(frame) for frame in large][: len(messages)]
    if storage == StoragePlugin.MCAP:  # SQLite moves the first of so few rows to the end of the file
        assert messages
    assert damage[0] == f"{packed.name} is cut off"
    assert damage[1].startswith(f"{packed.name} ends at byte")
    assert damage[2].endswith("of 4 messages")


def test_several_compressed_frames_are_read(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", frames(), StoragePlugin.MCAP)
    content = (bag / "bag.mcap").read_bytes()
    packed = tmp_path / "two.mcap.zstd"
    packed.write_bytes(b"".join(zstandard.compress(part) for part in (content[:5000], content[5000:])))
    assert read_all(packed) == ([raw(frame) for frame in frames()], [])


def test_errors_about_compressed_input_name_the_users_file(tmp_path: Path) -> None:
    for name in ("bag.mcap.zstd", "bag.db3.zstd"):
        (tmp_path / name).write_bytes(zstandard.compress(b"hello" * 50))
        with pytest.raises(InputError) as error:
            BagReader(tmp_path / name)
        assert str(error.value).startswith(str(tmp_path / name))
