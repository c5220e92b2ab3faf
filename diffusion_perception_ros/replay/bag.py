"""What a bag holds, whatever the storage: topics and serialized messages."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

from rosbags.interfaces import Qos

from diffusion_perception_ros.replay.definitions import typestore

NANOSECONDS = 10**9


@dataclass(frozen=True)
class Topic:
    """One topic of a bag.

    Attributes:
        name: Such as ``/camera/image_raw``.
        type: Such as ``sensor_msgs/msg/Image``.
        count: Number of messages.
        qos: The recorded publishers' quality of service, where the bag tells.
    """

    name: str
    type: str
    count: int
    qos: tuple[Qos, ...] = ()


class RawMessage(NamedTuple):
    """One serialized (CDR) message; ``log_time`` is when it was recorded, in ns."""

    topic: str
    type: str
    log_time: int
    data: bytes


class UndeserializableError(Exception):
    """The bytes of a message do not fit its type."""


def deserialize(raw: RawMessage) -> Any:
    """The message as an object with the fields of its type.

    Raises:
        UndeserializableError: The bytes do not fit the type.
    """
    try:
        return typestore().deserialize_cdr(raw.data, raw.type)
    except Exception as error:  # the generated decoders raise whatever the malformed bytes run into
        raise UndeserializableError(str(error)) from error


def header_stamp(raw: RawMessage) -> int | None:
    """The header stamp in ns of a message whose first field is a header, read without decoding the rest.

    None where the message is too short or the stamp malformed.
    """
    if len(raw.data) < 12:
        return None
    seconds, nanoseconds = struct.unpack_from("<iI" if raw.data[1] & 1 else ">iI", raw.data, 4)
    return int(seconds) * NANOSECONDS + int(nanoseconds) if nanoseconds < NANOSECONDS else None


def message_type(name: str) -> str:
    """The full type name: old recorders wrote ``sensor_msgs/Image``."""
    package, _, rest = name.partition("/")
    return name if "/" in rest or not rest else f"{package}/msg/{rest}"
