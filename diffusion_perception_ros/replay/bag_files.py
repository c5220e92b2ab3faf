"""Which storage files make up a bag."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from diffusion_perception_ros.errors import InputError

METADATA = "metadata.yaml"
STORAGE_SUFFIXES = (".mcap", ".db3")


class BagFiles(NamedTuple):
    """What a bag consists of.

    Attributes:
        files: Its storage files in the order of recording.
        missing: The names of those that should be there but are not.
        counts: The number of messages that metadata.yaml declares, by topic.
    """

    files: list[Path]
    missing: list[str]
    counts: dict[str, int]


def bag_files(path: Path) -> BagFiles:
    """Find the storage files of a bag.

    Args:
        path: A rosbag2 folder, or one storage file. A folder without (readable) metadata.yaml, as a recorder that
            crashed leaves it, counts as a bag if it holds storage files.

    Raises:
        InputError: ``path`` is no bag.
    """
    if not path.exists():
        raise InputError(f"the bag {path} does not exist.")
    if path.is_file():
        if is_storage_file(path):
            return BagFiles([path], [], {})
        if path.suffix == ".bag":
            raise InputError(f"{path} is a ROS 1 bag; convert it to ROS 2 with rosbags-convert first.")
        raise InputError(f"{path} is no bag: expected a rosbag2 folder, or a .mcap or .db3 file.")
    present = sorted((file for file in path.iterdir() if is_storage_file(file)), key=_recording_order)
    information = _information(path / METADATA)
    listed = _listed_files(information)
    files = [path / name for name in listed if (path / name).is_file()] if listed else present
    if not files:
        raise InputError(f"{path} is no bag: it holds no .mcap or .db3 file.")
    missing = [name for name in listed if not (path / name).is_file()]
    return BagFiles(files, missing, _declared_counts(information))


def is_storage_file(path: Path) -> bool:
    """Whether the name is that of a storage file, compressed as a whole or not."""
    return path.is_file() and PurePath(path.name.removesuffix(".zstd")).suffix in STORAGE_SUFFIXES


def _information(metadata: Path) -> Any:
    try:
        return YAML(typ="safe").load(metadata.read_text(encoding="utf-8"))["rosbag2_bagfile_information"]
    except (OSError, ValueError, YAMLError, KeyError, TypeError):
        return None


def _listed_files(information: Any) -> list[str]:
    try:
        # Early versions of rosbag2 wrote the folder's name in front.
        return [PurePath(name).name for name in information["relative_file_paths"]]
    except (KeyError, TypeError):
        return []


def _declared_counts(information: Any) -> dict[str, int]:
    counts: Counter[str] = Counter()
    try:
        for topic in information["topics_with_message_count"]:
            counts[str(topic["topic_metadata"]["name"])] += int(topic["message_count"])
    except (KeyError, TypeError, ValueError):
        return {}
    return dict(counts)


def _recording_order(path: Path) -> list[tuple[int, str]]:
    """Sorts name_2 before name_10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", path.name)]
