"""What is readable of an SQLite bag that was cut off or damaged.

SQLite itself reads a shortened file wrongly (it fills up the last page with zeros) or not at all. So the rows are taken
straight from the pages that are there (https://www.sqlite.org/fileformat.html); of a recorder's file, which only ever
grows, that is nearly everything before the cut.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.replay.bag import RawMessage, Topic, message_type
from diffusion_perception_ros.replay.storage_file import StorageFile

_HEADER_SIZE = 100
_TABLE_LEAF = 0x0D
_INTEGER_SIZES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}


class SqliteSalvage:
    """A scanned ``.db3`` file.

    Attributes:
        topics: The recorded topics, with the number of readable messages.
        damage: What is wrong with the file, or None where it is whole.

    Raises:
        InputError: Not even the list of topics is readable.
    """

    def __init__(self, file: StorageFile) -> None:
        self._path, self._name = file.path, file.original.name
        self.damage: str | None = None
        try:
            self._topics = _read_topics(self._path)
        except (sqlite3.Error, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{file.original} is not a readable SQLite bag: {error}.") from None
        try:
            check_complete(self._path)
        except EOFError as error:
            self.damage = f"{self._name} {error}"
        with self._path.open("rb") as stream:
            header = stream.read(_HEADER_SIZE)
            self._page_size = _page_size(header)
            self._usable = self._page_size - header[20]
            # A last page that is not whole does not count.
            self._pages = self._path.stat().st_size // self._page_size
            self._rows = sorted(self._find_rows(stream))
        counts = Counter(number for number, _, _ in self._scan())
        self.topics = [Topic(name, kind, counts[number]) for number, (name, kind) in self._topics.items()]

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        """The readable messages of these topics, in the order of recording."""
        for number, log_time, data in self._scan():
            name, kind = self._topics[number]
            if name in topics:
                yield RawMessage(name, kind, log_time, data)

    def _find_rows(self, stream: BinaryIO) -> Iterator[tuple[int, int, int]]:
        """Row number, page and place in the page of all rows of all tables."""
        for page_number in range(2, self._pages + 1):
            page = self._page(stream, page_number)
            # Pages of a long row begin with the number of the next, so that they are no leaves.
            if page[0] != _TABLE_LEAF:
                continue
            for i in range(int.from_bytes(page[3:5], "big")):
                place = int.from_bytes(page[8 + 2 * i : 10 + 2 * i], "big")
                try:
                    _, position = _varint(page, place)
                    row, _ = _varint(page, position)
                except IndexError:
                    self.damage = f"{self._name} has a damaged page {page_number}"
                    break
                yield row, page_number, place

    def _scan(self) -> Iterator[tuple[int, int, bytes]]:
        """Topic number, log time and data of every readable message."""
        with self._path.open("rb") as stream:
            for _, page_number, place in self._rows:
                try:
                    message = _message(self._payload(stream, self._page(stream, page_number), place))
                except EOFError:
                    return  # rows are written one after the other, so what follows is cut off as well
                except (IndexError, ValueError):
                    self.damage = f"{self._name} has a damaged row in page {page_number}"
                    continue
                if message and message[0] in self._topics:
                    yield message

    def _payload(self, stream: BinaryIO, page: bytes, place: int) -> bytes:
        """The content of a row, which may go on in further pages."""
        size, position = _varint(page, place)
        _, position = _varint(page, position)
        if size > self._pages * self._page_size:
            raise EOFError
        largest, smallest = self._usable - 35, (self._usable - 12) * 32 // 255 - 23
        local = size
        if size > largest:
            local = smallest + (size - smallest) % (self._usable - 4)
            local = local if local <= largest else smallest
        parts = [page[position : position + local]]
        following = int.from_bytes(page[position + local : position + local + 4], "big")
        remaining = size - local
        while remaining > 0:
            page = self._page(stream, following)
            parts.append(page[4 : 4 + min(remaining, self._usable - 4)])
            remaining -= self._usable - 4
            following = int.from_bytes(page[:4], "big")
        return b"".join(parts)

    def _page(self, stream: BinaryIO, number: int) -> bytes:
        if not 1 <= number <= self._pages:
            raise EOFError
        stream.seek((number - 1) * self._page_size)
        return stream.read(self._page_size)


def check_complete(path: Path) -> None:
    """Whether a database has all the pages that its header declares, to their ends.

    Raises:
        EOFError: It does not.
    """
    with path.open("rb") as stream:
        header = stream.read(_HEADER_SIZE)
    size, page_size = path.stat().st_size, _page_size(header)
    # Writers that do not know the field with the number of pages leave these two different.
    declared = int.from_bytes(header[28:32], "big") if header[24:28] == header[92:96] else 0
    if len(header) < _HEADER_SIZE or not page_size or size % page_size or size < declared * page_size:
        raise EOFError(f"ends at byte {size}, before the end of its last page")


def _page_size(header: bytes) -> int:
    size = int.from_bytes(header[16:18], "big")
    return 65536 if size == 1 else size  # which does not fit the field


def _read_topics(path: Path) -> dict[int, tuple[str, str]]:
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True)) as database:
        # SQLite refuses a file with fewer pages than its header says, except in this mode, meant for repairs.
        database.execute("PRAGMA writable_schema=ON")
        rows = database.execute("SELECT id, name, type FROM topics ORDER BY id").fetchall()
    return {int(number): (str(name), message_type(str(kind))) for number, name, kind in rows}


def _message(record: bytes) -> tuple[int, int, bytes] | None:
    """Topic number, log time and data, if the record is a row of the table ``messages``."""
    header_size, position = _varint(record, 0)
    kinds = []
    while position < header_size:
        kind, position = _varint(record, position)
        kinds.append(kind)
    # id (an alias of the row number, so NULL here), topic_id, timestamp, data
    if len(kinds) != 4 or kinds[0] or not {*kinds[1:3]} <= _INTEGER_SIZES.keys() or kinds[3] < 12 or kinds[3] % 2:
        return None
    values = []
    for kind in kinds[1:3]:
        end = position + _INTEGER_SIZES[kind]
        values.append(kind - 8 if kind >= 8 else int.from_bytes(record[position:end], "big", signed=True))
        position = end
    data = record[position : position + (kinds[3] - 12) // 2]
    if len(data) != (kinds[3] - 12) // 2:
        raise ValueError("the row is shorter than its header says")
    return values[0], values[1], data


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """SQLite's big-endian variable-length integer, and the position after it."""
    value = 0
    for i in range(8):
        byte = data[position + i]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, position + i + 1
    return value << 8 | data[position + 8], position + 9
