from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType
from replay_bags import (
    IMAGE_TOPIC,
    JAZZY,
    SECOND,
    START,
    Recorded,
    camera,
    camera_info,
    image,
    picture,
    write_bag,
    write_mcap,
)
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.replay.bag import RawMessage
from diffusion_perception_ros.replay.reader import BagReader

INFO_TOPIC = "/camera/camera_info"


def recording(count: int = 6) -> list[Recorded]:
    infos = [
        Recorded(INFO_TOPIC, camera_info(START + i * SECOND // 10), START + i * SECOND // 10 + 7) for i in range(count)
    ]
    return sorted([*camera(count), *infos], key=lambda recorded: recorded.log_time)


def raw(recorded: Recorded) -> RawMessage:
    kind = recorded.message.__msgtype__
    return RawMessage(recorded.topic, kind, recorded.log_time, bytes(JAZZY.serialize_cdr(recorded.message, kind)))


def read_all(path: Path) -> tuple[list[RawMessage], list[str]]:
    with BagReader(path) as bag:
        messages = list(bag.messages(list(bag.topics)))
        assert sum(topic.count for topic in bag.topics.values()) >= len(messages)
        return messages, bag.damage


class Layout(NamedTuple):
    storage: StoragePlugin
    compression: CompressionMode


LAYOUTS = [
    Layout(StoragePlugin.MCAP, CompressionMode.NONE),
    Layout(StoragePlugin.MCAP, CompressionMode.MESSAGE),
    Layout(StoragePlugin.MCAP, CompressionMode.FILE),
    Layout(StoragePlugin.MCAP, CompressionMode.STORAGE),
    Layout(StoragePlugin.SQLITE3, CompressionMode.NONE),
    Layout(StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
    Layout(StoragePlugin.SQLITE3, CompressionMode.FILE),
]


@pytest.mark.parametrize("metadata", [True, False], ids=["whole", "without metadata"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_reads_every_layout(tmp_path: Path, layout: Layout, metadata: bool) -> None:
    messages = recording()
    bag = write_bag(tmp_path / "bag", messages, *layout)
    if not metadata:
        (bag / "metadata.yaml").unlink()
    assert read_all(bag) == ([raw(message) for message in messages], [])


@pytest.mark.parametrize("suffix", [".mcap", ".db3"])
def test_reads_a_bare_file(tmp_path: Path, suffix: str) -> None:
    storage = StoragePlugin.MCAP if suffix == ".mcap" else StoragePlugin.SQLITE3
    bag = write_bag(tmp_path / "bag", recording(), storage)
    assert read_all(bag / f"bag{suffix}") == ([raw(message) for message in recording()], [])


@pytest.mark.parametrize("compression", list(CompressionType))
@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("profile", ["ros2", ""])
def test_reads_files_of_other_writers(
    tmp_path: Path, compression: CompressionType, chunked: bool, indexed: bool, profile: str
) -> None:
    path = write_mcap(
        tmp_path / "bag.mcap", recording(), compression, chunked=chunked, indexed=indexed, profile=profile
    )
    assert read_all(path) == ([raw(message) for message in recording()], [])


def test_an_unindexed_file_out_of_order_is_whole(tmp_path: Path) -> None:
    messages = recording()
    shuffled = [*messages[4:], *messages[:4]]
    path = write_mcap(tmp_path / "bag.mcap", shuffled, chunked=False, indexed=False)
    assert read_all(path) == ([raw(message) for message in shuffled], [])


def test_split_bags_are_read_in_the_order_of_recording(tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    bag.mkdir()
    messages = camera(12)
    for i, message in enumerate(messages):
        write_mcap(bag / f"bag_{i}.mcap", [message])
    assert read_all(bag) == ([raw(message) for message in messages], [])
    (bag / "metadata.yaml").write_text(
        "rosbag2_bagfile_information:\n  relative_file_paths: [old_name/bag_1.mcap, bag_0.mcap, bag_99.mcap]\n"
    )
    assert read_all(bag) == ([raw(messages[1]), raw(messages[0])], ["bag_99.mcap is missing"])


def test_old_databases_without_definitions(tmp_path: Path) -> None:
    message = raw(camera(1)[0])
    with sqlite3.connect(tmp_path / "bag.db3") as database:
        database.execute("CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT)")
        database.execute(
            "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB)"
        )
        database.execute("INSERT INTO topics VALUES(1, ?, 'sensor_msgs/Image', 'cdr')", [IMAGE_TOPIC])
        database.execute("INSERT INTO messages VALUES(1, 1, ?, ?)", [message.log_time, message.data])
    database.close()
    assert read_all(tmp_path / "bag.db3") == ([message], [])


CUT_FILES = {
    "indexed zstd": (CompressionType.ZSTD, True, 3000),
    "lz4": (CompressionType.LZ4, True, 100_000),
    "one zstd chunk": (CompressionType.ZSTD, True, 1_000_000),
    "uncompressed chunks": (CompressionType.NONE, True, 3000),
    "no chunks": (CompressionType.NONE, False, 0),
}


class Files(dict[str, bytes]):
    def __repr__(self) -> str:
        return f"Files({', '.join(self)})"


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("whole")
    messages = recording(8)
    # Larger than a block of the compressors, so that there is something to read in the chunk that was cut.
    messages += [Recorded(IMAGE_TOPIC, image(START + SECOND, picture(9, 240, 320)), START + SECOND)]
    files = {
        name: write_mcap(folder / f"{i}.mcap", messages, compression, size, chunked)
        for i, (name, (compression, chunked, size)) in enumerate(CUT_FILES.items())
    }
    files["sqlite3"] = write_bag(folder / "sqlite3", messages, StoragePlugin.SQLITE3) / "sqlite3.db3"
    files["file-compressed"] = write_bag(folder / "file", messages, compression=CompressionMode.FILE) / "file.mcap.zstd"
    return Files({name: path.read_bytes() for name, path in files.items()})


@pytest.mark.parametrize("name", [*CUT_FILES, "sqlite3", "file-compressed"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_cut_anywhere_leaves_a_prefix(tmp_path: Path, whole_files: Files, name: str, data: st.DataObject) -> None:
    whole = whole_files[name]
    cut = data.draw(st.integers(0, len(whole) - 1))
    suffix = {"sqlite3": ".db3", "file-compressed": ".mcap.zstd"}.get(name, ".mcap")
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole[:cut])
    expected = [raw(message) for message in recording(8)]
    try:
        messages, damage = read_all(path)
    except InputError:
        return
    assert damage
    assert messages[: len(expected)] == expected[: len(messages)]
    assert len(messages) <= len(expected) + 1


@pytest.mark.parametrize("name", ["no chunks", "uncompressed chunks", "sqlite3"])
def test_what_was_before_the_cut_is_read(tmp_path: Path, whole_files: Files, name: str) -> None:
    """All small messages: the cut is in the large one at the end."""
    path = tmp_path / ("cut.db3" if name == "sqlite3" else "cut.mcap")
    path.write_bytes(whole_files[name][: len(whole_files[name]) * 9 // 10 if name != "sqlite3" else -150_000])
    messages, damage = read_all(path)
    # SQLite may move the row before a long one to a page after it.
    expected = [raw(message) for message in recording(8)]
    assert messages in ((expected, expected[:-1]) if name == "sqlite3" else (expected,))
    assert len(damage) == 1


@pytest.mark.parametrize("compression", list(CompressionType))
def test_messages_inside_a_chunk_that_was_cut(tmp_path: Path, compression: CompressionType) -> None:
    """One chunk holds everything, so nothing would be left without looking inside."""
    messages = [Recorded(IMAGE_TOPIC, image(START + i, picture(i, 240, 320)), START + i) for i in range(6)]
    path = write_mcap(tmp_path / "cut.mcap", messages, compression, chunk_size=10**8)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    read, _ = read_all(path)
    assert read == [raw(message) for message in messages[: len(read)]]
    assert len(read) >= 2


@pytest.mark.parametrize("name", ["indexed zstd", "uncompressed chunks"])
def test_a_damaged_chunk_loses_only_its_own_messages(tmp_path: Path, whole_files: Files, name: str) -> None:
    path = tmp_path / "damaged.mcap"
    content = bytearray(whole_files[name])
    at = 700  # in the first chunk
    content[at : at + 8] = b"\xff" * 8
    path.write_bytes(content)
    expected = [raw(message) for message in recording(8)]
    messages, damage = read_all(path)
    assert any("damaged chunk" in sentence for sentence in damage)
    assert 0 < len(messages) < len(expected) + 1
    assert messages[-9:-1] == expected[-8:]
    positions = [expected.index(message) for message in messages[:-1]]
    assert positions == sorted(set(positions))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["indexed zstd", "uncompressed chunks", "no chunks", "sqlite3"]), data=st.data())
def test_flipped_bytes_raise_nothing_but_input_errors(
    tmp_path: Path, whole_files: Files, name: str, data: st.DataObject
) -> None:
    content = bytearray(whole_files[name])
    for at in data.draw(st.lists(st.integers(0, min(len(content), 20_000) - 1), min_size=1, max_size=6)):
        content[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path / ("flipped.db3" if name == "sqlite3" else "flipped.mcap")
    path.write_bytes(content)
    try:
        with BagReader(path) as bag:
            list(bag.messages(list(bag.topics)))
    except InputError:
        pass


def test_a_bag_folder_with_one_cut_file(tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    bag.mkdir()
    messages = camera(4)
    write_mcap(bag / "bag_0.mcap", messages[:2])
    second = write_mcap(bag / "bag_1.mcap", messages[2:], CompressionType.NONE, chunked=False)
    second.write_bytes(second.read_bytes()[:-700])
    read, damage = read_all(bag)
    assert read[:3] == [raw(message) for message in messages[:3]]
    assert len(damage) == 1
    second.write_bytes(b"")
    read, damage = read_all(bag)
    assert read == [raw(message) for message in messages[:2]]
    assert len(damage) == 1


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing", None, "does not exist"),
        ("bag.mcap", b"", "cut off before its first record"),
        ("bag.mcap", b"\x00" * 100, "not an MCAP file"),
        ("bag.db3", b"\x00" * 100, "not a readable SQLite bag"),
        ("bag.bag", b"#ROSBAG V2.0\n", "rosbags-convert"),
        ("bag.txt", b"hello", "no bag"),
    ],
)
def test_refuses_what_is_no_bag(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        BagReader(tmp_path / name)


def test_refuses_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no \.mcap or \.db3"):
        BagReader(tmp_path)


def test_leaves_no_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = write_bag(tmp_path / "bag", camera(2), compression=CompressionMode.FILE)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    read_all(bag)
    shutil.rmtree(bag)
    with pytest.raises(InputError):
        BagReader(bag)
    assert list(temporary.iterdir()) == []
