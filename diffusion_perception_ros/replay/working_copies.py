"""Storage files that cannot be read as they are: compressed as a whole, or with a log of changes beside them."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import zstandard

from diffusion_perception_ros.replay.sqlite_salvage import check_complete
from diffusion_perception_ros.replay.storage_file import StorageFile

_PIECE = 1 << 20


class WorkingCopy(NamedTuple):
    """A file that is ready to be read, and what was found missing or damaged on the way."""

    file: StorageFile
    damage: str | None = None


def working_copy(path: Path, folder: Path) -> WorkingCopy:
    """The file itself where it can be read as it is, else a copy under ``folder``; nothing is written beside the file.

    Raises:
        OSError: The file cannot be read, or the copy not be written.
    """
    if path.suffix == ".zstd":
        return _decompressed(path, folder)
    logs = [path.with_name(path.name + suffix) for suffix in ("-wal", "-journal")]
    logs = [log for log in logs if path.suffix == ".db3" and log.is_file() and log.stat().st_size]
    return _consolidated(path, logs, folder) if logs else WorkingCopy(StorageFile(path, path))


def _decompressed(path: Path, folder: Path) -> WorkingCopy:
    """Unpacked as far as possible."""
    target = Path(tempfile.mkdtemp(dir=folder)) / path.stem
    copy = StorageFile(target, path)
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    with path.open("rb") as packed, target.open("wb") as unpacked:
        try:
            while piece := packed.read(_PIECE):
                while piece:
                    if decompressor.eof:  # one frame may follow another
                        decompressor = zstandard.ZstdDecompressor().decompressobj()
                    unpacked.write(decompressor.decompress(piece))
                    piece = decompressor.unused_data
        except zstandard.ZstdError:
            return WorkingCopy(copy, f"{path.name} is damaged")
    return WorkingCopy(copy, None if decompressor.eof else f"{path.name} is cut off")


def _consolidated(path: Path, logs: list[Path], folder: Path) -> WorkingCopy:
    """A database together with what a recorder that did not end properly left in its write-ahead or rollback log."""
    target = Path(tempfile.mkdtemp(dir=folder)) / path.name
    for source in (path, *logs):
        shutil.copyfile(source, target.with_name(source.name))
    try:
        check_complete(target)
        with closing(sqlite3.connect(target)) as database:
            database.execute("SELECT name FROM sqlite_master").fetchall()  # the first access recovers
            database.execute("PRAGMA journal_mode=DELETE").fetchall()  # moves the log into the file
    except (EOFError, sqlite3.Error):
        return WorkingCopy(StorageFile(path, path), f"{logs[0].name} cannot be applied")
    return WorkingCopy(StorageFile(target, path))
