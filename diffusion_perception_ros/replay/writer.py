"""Writing bags; a bag appears under its name only when it is complete."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.replay.bag import RawMessage
from diffusion_perception_ros.replay.bag_files import METADATA, is_storage_file
from diffusion_perception_ros.replay.definitions import typestore

# The name of the storage file inside the output folder. It is written into the file too, so it must not depend on
# where the output is: equal runs write equal bytes.
_STORAGE_NAME = "perception_0"
_FOREVER = QosTime(9223372036, 854775807)
RESULT_QOS = Qos(
    history=QosHistory.KEEP_LAST,
    depth=1,
    reliability=QosReliability.RELIABLE,
    durability=QosDurability.VOLATILE,
    deadline=_FOREVER,
    lifespan=_FOREVER,
    liveliness=QosLiveliness.AUTOMATIC,
    liveliness_lease_duration=_FOREVER,
    avoid_ros_namespace_conventions=False,
)


def check_output(source: Path, output: Path, overwrite: bool) -> None:
    """Refuse an output that would destroy something.

    Raises:
        InputError: ``output`` exists (and is not to be overwritten, or is no bag), is named like a file, contains or is
            contained in ``source`` or its bag, or there can be nothing of this name.
    """
    if output.suffix in (".mcap", ".db3", ".bag"):
        raise InputError(
            f"the output {output} is written as a folder; give a name that does not end in {output.suffix}."
        )
    try:
        read, written = source.resolve(), output.resolve()
        if written.is_symlink():  # which resolves to itself, from Python 3.13 on
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        exists = written.exists()
        replaceable = exists and overwrite and _is_bag_or_empty(written)
        recording = read.parent if read.is_file() and (read.parent / METADATA).exists() else read
    except OSError as error:
        raise InputError(f"the output {output} cannot be written: {error.strerror}.") from None
    except RuntimeError:  # what pathlib made of it up to Python 3.12
        raise InputError(f"the output {output} is a loop of symbolic links; choose another output.") from None
    if recording == written or written in read.parents or recording in written.parents:
        raise InputError(f"the output {output} and the input {source} contain one another; choose another output.")
    if not exists:
        return
    if not overwrite:
        raise InputError(f"the output {output} exists already; choose another or replace it with --overwrite.")
    if not replaceable:
        raise InputError(f"the output {output} exists and is no bag, so it is not overwritten; choose another output.")


class BagWriter:
    """A context manager that writes one bag.

    The bag grows in a hidden folder beside ``output``. Leaving the context without an exception gives it its name (an
    older bag of that name goes only then); leaving it with one removes it.

    Args:
        output: The bag's folder; ``check_output`` has nothing against it.
        storage: ``mcap`` or ``sqlite3``.
        overwrite: Replace what is at ``output``.

    Attributes:
        counts: Messages written so far, by topic.

    Raises:
        InputError: The output cannot be written.
    """

    def __init__(self, output: Path, storage: str, overwrite: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        # A link is followed, so that the bag lands where it points.
        self._output = output.resolve()
        self._overwrite = overwrite
        self._storage = StoragePlugin[storage.upper()]
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> BagWriter:
        parent = self._output.parent
        self._new_parents = [folder for folder in (parent, *parent.parents) if not folder.exists()]
        place = self._new_parents[-1].parent if self._new_parents else parent
        try:
            parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix=f".{self._output.name}.partial-", dir=parent))
        except OSError as error:
            self._remove_new_parents()
            reason = error.strerror if place.is_dir() else "it is no folder"
            raise InputError(f"the output {self._output} cannot be written in {place}: {reason}.") from None
        self._writer = Writer(self._folder / _STORAGE_NAME, version=9, storage_plugin=self._storage)
        try:
            self._writer.open()
        except BaseException as error:
            self._discard()
            raise self._refusal(error) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._writer.close()
                self._publish()
        except BaseException as failure:
            self._discard()
            raise self._refusal(failure) from None
        if error is None:
            shutil.rmtree(self._folder, ignore_errors=True)
        else:
            self._discard()

    def write(self, topic: str, message: Any, log_time: int) -> None:
        """Write a result, an object of one of the typestore's classes."""
        kind = message.__msgtype__
        self._write(topic, kind, log_time, typestore().serialize_cdr(message, kind), (RESULT_QOS,))

    def copy(self, raw: RawMessage, qos: Sequence[Qos]) -> None:
        """Write a message as it was read."""
        self._write(raw.topic, raw.type, raw.log_time, raw.data, qos)

    def _write(self, topic: str, kind: str, log_time: int, data: bytes | memoryview, qos: Sequence[Qos]) -> None:
        try:
            if topic not in self._connections:
                self._connections[topic] = self._writer.add_connection(
                    topic, kind, typestore=typestore(), offered_qos_profiles=qos
                )
            self._writer.write(self._connections[topic], log_time, data)
        except (OSError, sqlite3.Error) as error:
            raise self._refusal(error) from None
        self.counts[topic] += 1

    def _publish(self) -> None:
        """Swap the finished bag for what is at its place."""
        old = self._folder / "replaced"
        if self._overwrite and self._output.exists():
            self._output.rename(old)
        try:
            (self._folder / _STORAGE_NAME).rename(self._output)
        except BaseException:
            if old.exists():
                old.rename(self._output)
            raise

    def _discard(self) -> None:
        with suppress(Exception):
            self._writer.abort()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._remove_new_parents()

    def _remove_new_parents(self) -> None:
        for folder in self._new_parents:
            with suppress(OSError):
                folder.rmdir()

    def _refusal(self, error: BaseException) -> BaseException:
        if isinstance(error, OSError):
            return InputError(f"the output {self._output} cannot be written: {error.strerror or error}.")
        if isinstance(error, sqlite3.Error):
            return InputError(f"the output {self._output} cannot be written: {error}.")
        return error


def _is_bag_or_empty(path: Path) -> bool:
    return path.is_dir() and all(entry.name == METADATA or is_storage_file(entry) for entry in path.iterdir())
