from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.reader import make_reader
from replay_bags import (
    MASKS_TOPIC,
    START,
    BrightnessPipeline,
    Recorded,
    as_pipeline,
    camera,
    image,
    read_bag,
    write_bag,
)
from rosbags.interfaces import QosDurability, QosHistory, QosReliability
from rosbags.rosbag2 import Reader

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.replay import ReplaySettings, ReplaySummary, replay
from diffusion_perception_ros.replay.writer import BagWriter, check_output


@pytest.fixture
def source(tmp_path: Path) -> Path:
    labels = np.zeros((6, 8), np.uint8)
    labels[2, 3] = 5
    masks = Recorded(MASKS_TOPIC, image(START, labels, "mono8"), START + 1)
    return write_bag(tmp_path / "in", [*camera(3), masks])


def run(source: Path, output: Path, pipe: BrightnessPipeline | None = None, **options: Any) -> ReplaySummary:
    settings = ReplaySettings(visible_masks_topic=MASKS_TOPIC, **options)
    return replay(source, output, as_pipeline(pipe or BrightnessPipeline()), settings)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_equal_runs_write_equal_bytes(source: Path, tmp_path: Path, storage: str) -> None:
    run(source, tmp_path / "one", storage=storage, include_input=True)
    run(source, tmp_path / "somewhere" / "else", storage=storage, include_input=True)
    assert content(tmp_path / "one") == content(tmp_path / "somewhere" / "else")
    assert sorted(content(tmp_path / "one")) == [
        "metadata.yaml",
        f"perception_0.{'mcap' if storage == 'mcap' else 'db3'}",
    ]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_qos_and_type_hashes_of_the_results(source: Path, tmp_path: Path, storage: str) -> None:
    summary = run(source, tmp_path / "out", storage=storage)
    with Reader(tmp_path / "out") as reader:
        assert {connection.topic: connection.msgcount for connection in reader.connections} == summary.messages
        for connection in reader.connections:
            (qos,) = connection.ext.offered_qos_profiles  # type: ignore[union-attr]
            assert (qos.history, qos.depth) == (QosHistory.KEEP_LAST, 1)
            assert (qos.reliability, qos.durability) == (QosReliability.RELIABLE, QosDurability.VOLATILE)
            assert connection.digest.startswith("RIHS01_")


def test_the_mcap_package_finds_complete_definitions(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out")
    with (tmp_path / "out" / "perception_0.mcap").open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        definitions = {schema.name: schema.data.decode() for schema, _, _ in reader.iter_messages() if schema}
        log_times = [message.log_time for _, _, message in reader.iter_messages()]
    assert log_times == sorted(log_times)
    assert "float32 max_displacement_x" in definitions["diffusion_perception_ros/msg/OpticalFlow"]
    masks = definitions["diffusion_perception_ros/msg/AmodalMaskArray"]
    for part in (
        "AmodalMask[] masks",
        "MSG: diffusion_perception_ros/AmodalMask\n",
        "MSG: sensor_msgs/RegionOfInterest",
    ):
        assert part in masks


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_of_a_run_that_fails(
    source: Path, tmp_path: Path, storage: str, error: type[BaseException]
) -> None:
    class Failing(BrightnessPipeline):
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            if len(self.calls) == 1:
                raise error
            return super().__call__(*arguments, **options)

    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(error):
        run(source, target / "deep" / "out", Failing(), storage=storage)
    assert list(target.iterdir()) == []
    # Nor is the older bag touched.
    run(source, target / "out", storage=storage)
    before = content(target / "out")
    with pytest.raises(error):
        run(source, target / "out", Failing(), storage=storage, overwrite=True)
    assert [path.name for path in target.iterdir()] == ["out"]
    assert content(target / "out") == before


def test_the_output_appears_only_at_the_end(source: Path, tmp_path: Path) -> None:
    class Watching(BrightnessPipeline):
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            assert not (tmp_path / "out").exists()
            return super().__call__(*arguments, **options)

    run(source, tmp_path / "out", Watching())
    assert (tmp_path / "out").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_overwriting(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out", storage="sqlite3")
    with pytest.raises(InputError, match="exists already; choose another or replace it with --overwrite"):
        run(source, tmp_path / "out")
    run(source, tmp_path / "out", overwrite=True)
    assert sorted(content(tmp_path / "out")) == ["metadata.yaml", "perception_0.mcap"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_overwriting_through_a_link(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    run(source, tmp_path / "link", storage="sqlite3", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "out" / "perception_0.db3").is_file()


@pytest.mark.parametrize("name", ["notes.txt", "nested/perception_0.mcap"])
def test_what_is_no_bag_is_never_overwritten(source: Path, tmp_path: Path, name: str) -> None:
    precious = tmp_path / "out" / name
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    with pytest.raises(InputError, match="is no bag, so it is not overwritten"):
        run(source, tmp_path / "out", overwrite=True)
    assert precious.read_text() == "precious"


def test_an_output_that_appeared_meanwhile_stays(tmp_path: Path) -> None:
    def intrude() -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "precious").touch()

    writer = BagWriter(tmp_path / "out", "mcap")
    with pytest.raises(InputError, match="cannot be written"), writer:
        intrude()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "precious").exists()


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("in", "contain one another"),
        ("in/out", "contain one another"),
        (".", "contain one another"),
        ("out.mcap", "written as a folder"),
        ("file", "exists and is no bag"),
    ],
)
def test_refused_outputs(source: Path, output: str, words: str) -> None:
    (source.parent / "file").touch()
    with pytest.raises(InputError, match=words):
        check_output(source, source.parent / output, overwrite=True)


def test_an_unwritable_output(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        run(source, tmp_path / "file" / "out")


def test_an_output_that_cannot_be_is_one_sentence(source: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match="File name too long"):
        check_output(source, tmp_path / ("x" * 300), overwrite=False)
    with pytest.raises(InputError, match=r"loop of symbolic links|Too many levels"):
        check_output(source, tmp_path / "loop", overwrite=False)
    # Long enough only for the folder in which it grows.
    with pytest.raises(InputError, match="File name too long"):
        run(source, tmp_path / "new" / ("x" * 250))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("function", ["Path.resolve", "Path.exists"])
def test_an_unsearchable_parent(source: Path, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(f"diffusion_perception_ros.replay.writer.{function}", refuse)
    with pytest.raises(InputError, match="cannot be written: Permission denied"):
        check_output(source, source.parent / "out", overwrite=False)


def test_an_unwritable_parent_is_named(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "a temporary name")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    writer = BagWriter(tmp_path / "new" / "out", "mcap")
    words = f"the output {tmp_path}/new/out cannot be written in {tmp_path}: Permission denied."
    with pytest.raises(InputError, match=re.escape(words)), writer:
        pass
    assert not (tmp_path / "new").exists()


def test_a_full_disk_is_said_in_words(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("rosbags.rosbag2.Writer.write", refuse)
    with pytest.raises(InputError, match=r"out cannot be written: No space left on device\.$"):
        run(source, tmp_path / "out")


def test_nothing_is_written_into_the_recorded_bag(source: Path) -> None:
    with pytest.raises(InputError, match="contain one another"):
        check_output(source / "in.mcap", source / "out", overwrite=False)
    (source / "metadata.yaml").unlink()  # without it, this is a folder like any other
    check_output(source / "in.mcap", source / "out", overwrite=False)


def test_results_do_not_mix_with_copies(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose another --namespace"):
        run(source, tmp_path / "out", include_input=True, namespace="/camera")
    run(source, tmp_path / "out", namespace="/camera")
    assert "/camera/depth/relative" in read_bag(tmp_path / "out")
