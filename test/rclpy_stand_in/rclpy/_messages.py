"""Message classes as rosidl generates them for Python, made from the definitions that rosbags knows."""

import array
import os
from functools import cache

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import get_types_from_msg

from diffusion_perception_ros.replay.definitions import typestore

ros_python_check_fields = os.getenv("ROS_PYTHON_CHECK_FIELDS", default="")

_TYPE_CODES = {
    "float32": "f", "float64": "d", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i",
    "uint32": "I", "int64": "q", "uint64": "Q",
}  # fmt: skip
_DEFAULTS = {"bool": False, "string": "", "byte": b"\0", "float32": 0.0, "float64": 0.0}
_DTYPES = {"byte": "uint8", "bool": "bool"}


def define(namespace, *services):
    """Fill a module such as ``sensor_msgs.msg`` with its classes."""
    package, kind = namespace["__name__"].rsplit(".", 1)
    for name in typestore().fielddefs:
        if name.startswith(f"{package}/{kind}/"):
            namespace[name.rpartition("/")[2]] = message_class(name)


def register(package, **definitions):
    """Add the definitions of a package that rosbags does not know."""
    for name, text in definitions.items():
        kind = f"{package}/msg/{name}"
        if kind not in typestore().fielddefs:
            typestore().register(get_types_from_msg(text, kind))


def define_service(namespace, name, request, response):
    """Fill a module such as ``std_srvs.srv`` with a service."""
    package = namespace["__name__"].rsplit(".", 1)[0]
    parts = {}
    for part, text in (("Request", request), ("Response", response)):
        kind = f"{package}/msg/{name}_{part}"
        if kind not in typestore().fielddefs:
            typestore().register(get_types_from_msg(text, kind))
        parts[part] = message_class(kind)
    namespace[name] = type(name, (), parts)


@cache
def message_class(name):
    """The class of a type such as ``sensor_msgs/msg/Image``."""
    package, kind, short = name.split("/")
    constants, fields = typestore().fielddefs[name]
    body = {
        "__slots__": [*(f"_{field}" for field, _ in fields), "_check_fields"],
        "__module__": f"{package}.{kind}._{short.lower()}",
        "_TYPE": name,
        "_FIELDS": dict(fields),
        **{constant: bytes([value]) if base == "byte" else value for constant, base, value in constants},
        **{field: _property(field, description) for field, description in fields},
    }
    return type(short, (_Message,), body)


def _property(field, description):
    def read(self):
        return getattr(self, f"_{field}")

    def write(self, value):
        if self._check_fields:
            assert _fits(description, value), f"The {field!r} field must not be {value!r}"
        node, detail = description
        if node not in {Nodetype.BASE, Nodetype.NAME} and _base(detail[0]) in _TYPE_CODES:
            code = _TYPE_CODES[_base(detail[0])]
            if node == Nodetype.ARRAY:
                value = np.array(value, dtype=_base(detail[0]))
            elif not (self._check_fields and isinstance(value, array.array)):
                value = array.array(code, value)
        setattr(self, f"_{field}", value)

    return property(read, write)


class _Message:
    __slots__ = ()

    def __init__(self, **fields):
        self._check_fields = ros_python_check_fields == "1"
        if self._check_fields:
            assert fields.keys() <= self._FIELDS.keys(), f"Invalid arguments passed to constructor: {fields}"
        for name, description in self._FIELDS.items():
            setattr(self, name, fields[name] if name in fields else _default(description))

    def __eq__(self, other):
        return type(self) is type(other) and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in self._FIELDS
        )

    __hash__ = None

    @classmethod
    def get_fields_and_field_types(cls):
        return {name: _spell(description) for name, description in cls._FIELDS.items()}


def serialize(message):
    """CDR bytes, with what a release build of rosidl makes of values of the wrong type."""
    return bytes(typestore().serialize_cdr(_to_rosbags(message), message._TYPE))


def deserialize(data, kind):
    return _from_rosbags(typestore().deserialize_cdr(data, kind._TYPE), kind)


def _to_rosbags(message):
    values = {name: _c_value(getattr(message, name), what) for name, what in message._FIELDS.items()}
    return typestore().types[message._TYPE](**values)


def _c_value(value, description):
    node, detail = description
    if node == Nodetype.NAME:
        if not isinstance(value, _Message) or detail != value._TYPE:
            raise SystemError(f"{value!r} is no {detail}")
        return _to_rosbags(value)
    if node == Nodetype.BASE:
        return _c_scalar(value, detail[0])
    element, _ = detail
    if _base(element) in _TYPE_CODES:
        return np.array(value, dtype=_base(element))
    if not isinstance(value, (list, tuple)):
        raise SystemError(f"{value!r} is no list")
    converted = [_c_value(item, element) for item in value]
    return np.array(converted, _DTYPES[_base(element)]) if _base(element) in _DTYPES else converted


def _c_scalar(value, base):
    if base == "bool":
        return value is True  # the C code compares with Py_True
    if base in ("float32", "float64"):
        if isinstance(value, float):
            return value
        return 0.0 if base == "float32" else 5e-315  # the C code reads the object as if it were a float
    if base == "string":
        good = isinstance(value, str)
    elif base == "byte":
        good = isinstance(value, bytes) and len(value) == 1
        value = value[0] if good else value
    else:
        good = isinstance(value, int)
        if good:
            limits = np.iinfo(base)
            good = limits.min <= value <= limits.max
    if not good:
        raise SystemError(f"{value!r} of type {type(value).__name__} returned a result with an exception set")
    return value


def _from_rosbags(source, kind):
    message = kind()
    for name, (node, detail) in kind._FIELDS.items():
        value = getattr(source, name)
        if node == Nodetype.NAME:
            value = _from_rosbags(value, message_class(detail))
        elif node == Nodetype.BASE:
            value = bytes([value]) if detail[0] == "byte" else value
        elif detail[0][0] == Nodetype.NAME:
            value = [_from_rosbags(item, message_class(detail[0][1])) for item in value]
        elif node == Nodetype.SEQUENCE and _base(detail[0]) in _TYPE_CODES:
            filled = array.array(_TYPE_CODES[_base(detail[0])])
            filled.frombytes(np.ascontiguousarray(value).tobytes())
            setattr(message, f"_{name}", filled)
            continue
        setattr(message, name, value)
    return message


def _base(description):
    node, detail = description
    return detail[0] if node == Nodetype.BASE else None


def _default(description):
    node, detail = description
    if node == Nodetype.NAME:
        return message_class(detail)()
    if node == Nodetype.BASE:
        return _DEFAULTS.get(detail[0], 0)
    if node == Nodetype.ARRAY:
        return np.zeros(detail[1]) if _base(detail[0]) in _TYPE_CODES else [_default(detail[0])] * detail[1]
    return []


def _spell(description):
    node, detail = description
    if node == Nodetype.NAME:
        return detail.replace("/msg/", "/")
    if node == Nodetype.BASE:
        return "octet" if detail[0] == "byte" else {"float64": "double", "float32": "float"}.get(detail[0], detail[0])
    inner = _spell(detail[0])
    return f"{inner}[{detail[1]}]" if node == Nodetype.ARRAY else f"sequence<{inner}>"


def _fits(description, value):
    node, detail = description
    if node == Nodetype.NAME:
        return isinstance(value, message_class(detail))
    if node == Nodetype.BASE:
        base = detail[0]
        if base == "bool":
            return isinstance(value, bool)
        if base in ("float32", "float64"):
            return isinstance(value, float)
        if base == "string":
            return isinstance(value, str)
        if base == "byte":
            return isinstance(value, bytes) and len(value) == 1
        return isinstance(value, int) and np.iinfo(base).min <= value <= np.iinfo(base).max
    if isinstance(value, array.array):
        return value.typecode == _TYPE_CODES.get(_base(detail[0]))
    if isinstance(value, np.ndarray):
        return node == Nodetype.ARRAY and value.dtype == _base(detail[0]) and value.size == detail[1]
    return isinstance(value, (list, tuple)) and all(_fits(detail[0], item) for item in value)
