"""Reading bags: a rosbag2 folder, or a bare ``.mcap`` or ``.db3`` file; whole, compressed, cut off or damaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import zstandard
from rosbags.interfaces import ConnectionExtRosbag2
from rosbags.rosbag2 import Reader

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.replay.bag import RawMessage, Topic, message_type
from diffusion_perception_ros.replay.bag_files import bag_files
from diffusion_perception_ros.replay.mcap_salvage import McapSalvage
from diffusion_perception_ros.replay.sqlite_salvage import SqliteSalvage, check_complete
from diffusion_perception_ros.replay.storage_file import StorageFile
from diffusion_perception_ros.replay.wording import counted
from diffusion_perception_ros.replay.working_copies import working_copy

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class BagReader:
    """The topics and messages of a bag, from all of its files.

    rosbags reads what is whole. A file that it refuses, at opening or in the middle, is read on by our own scanners, as
    far as it goes.

    Args:
        path: A rosbag2 folder (with or without metadata.yaml), or a ``.mcap`` or ``.db3`` file.

    Attributes:
        topics: By name.
        damage: What was found missing or damaged, one sentence part each. Grows while messages are read.

    Raises:
        InputError: ``path`` is no bag, or nothing of it is readable.
    """

    def __init__(self, path: Path) -> None:
        self.topics: dict[str, Topic] = {}
        self.damage: list[str] = []
        self._salvages: dict[StorageFile, McapSalvage | SqliteSalvage] = {}
        self._folder = TemporaryDirectory(prefix="diffusion_perception_replay_")
        try:
            found = bag_files(path)
            self.damage += [f"{name} is missing" for name in found.missing]
            files = [self._prepare(file) for file in found.files]
            refusals = {file: refusal for file in files if (refusal := self._open(file))}
            self._files = [file for file in files if file not in refusals]
            if not self._files:
                raise refusals[files[0]]
            self.damage += [str(refusal).rstrip(".") for refusal in refusals.values()]
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise InputError(f"{path} cannot be read: {error.strerror}.") from None
            raise
        self._declared = {name: max(topic.count, found.counts.get(name, 0)) for name, topic in self.topics.items()}

    def messages(self, topics: Collection[str], start: int | None = None) -> Iterator[RawMessage]:
        """The messages of these topics in order of log time within each file; every call reads on its own.

        A damaged file is read in the order in which it was recorded.

        Args:
            topics: Names of topics.
            start: Leave out what was recorded before this log time, in ns.
        """
        read: Counter[str] = Counter()
        for file in self._files:
            for raw in self._read(file, topics, start):
                read[raw.topic] += 1
                yield raw
        if start is None:
            for name in topics:
                declared = self._declared.get(name, 0)
                if read[name] < declared:
                    self._note(f"{name} has only {read[name]} of {counted(declared, 'message')}")

    def close(self) -> None:
        """Remove what was decompressed."""
        self._folder.cleanup()

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _prepare(self, path: Path) -> StorageFile:
        file, damage = working_copy(path, Path(self._folder.name))
        if damage:
            self._note(damage)
        return file

    def _open(self, file: StorageFile) -> InputError | None:
        """Learn the topics of one file, or the reason why nothing of it is readable."""
        try:
            if file.path.suffix == ".db3":
                check_complete(file.path)  # SQLite itself fills up what is missing with zeros
            with Reader(file.path) as reader:
                topics = [
                    Topic(c.topic, message_type(c.msgtype), c.msgcount, tuple(c.ext.offered_qos_profiles))
                    for c in reader.connections
                    if isinstance(c.ext, ConnectionExtRosbag2)
                ]
        except Exception:  # a cut file makes rosbags' decoders run into anything
            refusal = self._salvage(file)
            if refusal:
                return refusal
            topics = self._salvages[file].topics
        for topic in topics:
            known = self.topics.get(topic.name)
            count = topic.count + (known.count if known else 0)
            self.topics[topic.name] = Topic(topic.name, topic.type, count, topic.qos)
        return None

    def _read(self, file: StorageFile, topics: Collection[str], start: int | None) -> Iterator[RawMessage]:
        yielded: Counter[tuple[str, int]] = Counter()
        if file not in self._salvages:
            try:
                with Reader(file.path) as reader:
                    chosen = [c for c in reader.connections if c.topic in topics]
                    for connection, log_time, data in reader.messages(chosen, start) if chosen else ():
                        yielded[connection.topic, log_time] += 1
                        yield _raw(connection.topic, message_type(connection.msgtype), log_time, data)
                return
            except Exception as error:  # whatever rosbags' decoders run into
                refusal = self._salvage(file)
                if refusal:
                    self._note(f"{file.original.name} is unreadable ({error})")
                    return
        for raw in self._salvages[file].messages(topics):
            if start is not None and raw.log_time < start:
                continue
            if yielded[raw.topic, raw.log_time]:
                yielded[raw.topic, raw.log_time] -= 1
            else:
                yield _raw(*raw)

    def _salvage(self, file: StorageFile) -> InputError | None:
        """Have a file read by our own scanner from now on; the reason if even that cannot read it."""
        try:
            salvage = McapSalvage(file) if file.path.suffix == ".mcap" else SqliteSalvage(file)
        except InputError as refusal:
            return refusal
        except OSError as error:
            return InputError(f"{file.original} cannot be read: {error.strerror}.")
        self._salvages[file] = salvage
        if salvage.damage:
            self._note(salvage.damage)
        return None

    def _note(self, damage: str) -> None:
        if damage not in self.damage:
            self.damage.append(damage)


def _raw(topic: str, kind: str, log_time: int, data: bytes) -> RawMessage:
    # Message-wise compression is told by the data: no CDR message begins with these bytes.
    if data[:4] == _ZSTD_MAGIC:
        with suppress(zstandard.ZstdError):  # otherwise counted as undeserializable later
            data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return RawMessage(topic, kind, log_time, data)
