"""What is readable of an MCAP file that was cut off or damaged.

A scanner of the records in file order (https://mcap.dev/spec): it needs neither footer nor index, and reads the
messages inside a chunk up to the point where the chunk ends or cannot be decompressed any further.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import BinaryIO, NamedTuple

import lz4.frame
import zstandard
from rosbags.interfaces import Qos
from rosbags.rosbag2.metadata import parse_qos

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.replay.bag import RawMessage, Topic, message_type
from diffusion_perception_ros.replay.storage_file import StorageFile

MAGIC = b"\x89MCAP0\r\n"
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK = 0x02, 0x03, 0x04, 0x05, 0x06
_RECORD_HEAD = struct.Struct("<BQ")
_CHUNK_HEAD = struct.Struct("<QQQI")
_MESSAGE_HEAD = struct.Struct("<HIQQ")
_PIECE = 1 << 16


class _Channel(NamedTuple):
    topic: str
    type: str
    qos: tuple[Qos, ...]


class McapSalvage:
    """A scanned MCAP file.

    Attributes:
        topics: The topics whose channel records are readable, with the number of readable messages.
        damage: What is wrong with the file, or None where it is whole.

    Raises:
        InputError: The file does not begin as an MCAP file does.
    """

    def __init__(self, file: StorageFile) -> None:
        self._file, self._name = file, file.original.name
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, _Channel] = {}
        self.damage: str | None = None
        # Messages are counted by channel number and named afterwards: where the chunk with a channel's record is
        # damaged, the record is repeated at the end of the file.
        counts = Counter(number for number, _, _ in self._scan())
        topics: dict[str, Topic] = {}
        for number, channel in self._channels.items():
            earlier = topics[channel.topic].count if channel.topic in topics else 0
            topics[channel.topic] = Topic(channel.topic, channel.type, earlier + counts[number], channel.qos)
        self.topics = list(topics.values())

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        """The readable messages of these topics, in the order of the file."""
        for number, log_time, data in self._scan():
            channel = self._channels.get(number)
            if channel and channel.topic in topics:
                yield RawMessage(channel.topic, channel.type, log_time, data)

    def _scan(self) -> Iterator[tuple[int, int, bytes]]:
        """Channel number, log time and data of every readable message; learns schemas and channels on the way."""
        with self._file.path.open("rb") as stream:
            if stream.read(len(MAGIC)) != MAGIC:
                raise InputError(f"{self._file.original} is not an MCAP file, or was cut off before its first record.")
            size = self._file.path.stat().st_size
            opcode = 0
            while opcode != _FOOTER:
                at = stream.tell()
                head = stream.read(_RECORD_HEAD.size)
                if len(head) < _RECORD_HEAD.size:
                    self.damage = f"{self._name} ends at byte {size}, before its footer"
                    return
                opcode, length = _RECORD_HEAD.unpack(head)
                end = stream.tell() + length
                if not opcode:
                    self.damage = f"{self._name} is unreadable from byte {at} on"
                    return
                if opcode == _CHUNK:
                    yield from self._scan_chunk(stream, end, size)
                elif opcode in (_SCHEMA, _CHANNEL, _MESSAGE) and end <= size:
                    yield from self._read_record(opcode, memoryview(stream.read(length)))
                if end > size:
                    self.damage = f"{self._name} ends at byte {size}, inside the record at byte {at}"
                    return
                stream.seek(end)
            if stream.read(len(MAGIC)) != MAGIC:
                self.damage = f"{self._name} ends at byte {size}, before its last bytes"

    def _scan_chunk(self, stream: BinaryIO, end: int, size: int) -> Iterator[tuple[int, int, bytes]]:
        at = stream.tell()
        content = memoryview(stream.read(min(end, size) - at))
        if len(content) < _CHUNK_HEAD.size + 4:
            return
        _, _, uncompressed_size, checksum = _CHUNK_HEAD.unpack_from(content)
        name_end = _CHUNK_HEAD.size + 4 + int.from_bytes(content[_CHUNK_HEAD.size :][:4], "little")
        compression = bytes(content[_CHUNK_HEAD.size + 4 : name_end])
        records = _decompress(content[name_end + 8 :], compression)
        whole = len(records) == uncompressed_size
        if end <= size and (not whole or (checksum and zlib.crc32(records) != checksum)):
            self.damage = f"{self._name} has a damaged chunk at byte {at}"
            if whole:  # nobody knows which of its bytes are wrong
                return
        position = 0
        while position + _RECORD_HEAD.size <= len(records):
            opcode, length = _RECORD_HEAD.unpack_from(records, position)
            position += _RECORD_HEAD.size
            if position + length > len(records):
                return
            yield from self._read_record(opcode, memoryview(records)[position : position + length])
            position += length

    def _read_record(self, opcode: int, content: memoryview) -> Iterator[tuple[int, int, bytes]]:
        try:
            if opcode == _SCHEMA:
                (number,) = struct.unpack_from("<H", content)
                self._schemas[number] = _string(content, 2)[0]
            elif opcode == _CHANNEL:
                number, schema = struct.unpack_from("<HH", content)
                topic, position = _string(content, 4)
                _, position = _string(content, position)
                qos = _offered_qos(content[position + 4 :])
                self._channels[number] = _Channel(topic, message_type(self._schemas.get(schema, "")), qos)
            elif opcode == _MESSAGE:
                number, _, log_time, _ = _MESSAGE_HEAD.unpack_from(content)
                yield number, log_time, bytes(content[_MESSAGE_HEAD.size :])
        except (struct.error, UnicodeDecodeError):
            self.damage = f"{self._name} has a malformed record"


def _decompress(data: memoryview, compression: bytes) -> bytes:
    """As much as can be decompressed, from the first byte on."""
    decompressor: zstandard.ZstdDecompressionObj | lz4.frame.LZ4FrameDecompressor
    if compression == b"":
        return bytes(data)
    if compression == b"zstd":
        decompressor = zstandard.ZstdDecompressor().decompressobj()
    elif compression == b"lz4":
        decompressor = lz4.frame.LZ4FrameDecompressor()
    else:
        return b""
    pieces = []
    # Piece by piece, because the pieces before the damage are good.
    with suppress(zstandard.ZstdError, RuntimeError, EOFError):
        for start in range(0, len(data), _PIECE):
            if decompressor.eof:
                break
            pieces.append(decompressor.decompress(bytes(data[start : start + _PIECE])))
    return b"".join(pieces)


def _string(content: memoryview, position: int) -> tuple[str, int]:
    """The length-prefixed string at ``position``, and the position after it."""
    (length,) = struct.unpack_from("<I", content, position)
    end = position + 4 + length
    return str(content[position + 4 : end], "utf-8"), end


def _offered_qos(metadata: memoryview) -> tuple[Qos, ...]:
    position = 0
    while position < len(metadata):
        key, position = _string(metadata, position)
        value, position = _string(metadata, position)
        if key == "offered_qos_profiles":
            try:
                return tuple(parse_qos(value))
            except Exception:  # a profile of an unknown form is worth less than the messages
                return ()
    return ()
