"""From the plain values of a YAML file to frozen dataclasses, with errors that name the place."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from diffusion_perception_ros.errors import InputError

T = TypeVar("T")

_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", Path: "a path"}


def build(kind: type[T], values: Any, where: str) -> T:
    """An instance of a dataclass from a mapping, checked field by field.

    Knows nested dataclasses, mappings with text keys, tuples, optional values, numbers, texts, paths and booleans.

    Args:
        kind: The dataclass.
        values: What the file says.
        where: What to call it in messages.

    Raises:
        InputError: A field is unknown, missing or of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{where} must be a mapping of settings, not {values!r}.")
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]  # T is always a dataclass
    for name in values:
        if name not in known:
            raise InputError(f"{where} has an unknown setting {name!r}; it knows {', '.join(known)}.")
    hints = get_type_hints(kind)
    arguments = {}
    for name, f in known.items():
        if name in values:
            arguments[name] = _convert(hints[name], values[name], f"{where}.{name}")
        elif f.default is MISSING and f.default_factory is MISSING:
            raise InputError(f"{where} lacks the setting {name!r}.")
    try:
        return kind(**arguments)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return None if value is None else _convert(arguments[0], value, where)
    if is_dataclass(hint):
        return build(hint, value, where)  # type: ignore[arg-type]  # a class, as hints are
    if origin is tuple:
        if not isinstance(value, list):
            raise InputError(f"{where} must be a list, not {value!r}.")
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise InputError(f"{where} must have {len(arguments)} entries, not {len(value)}.")
        return tuple(_convert(arguments[0], entry, f"{where}[{i}]") for i, entry in enumerate(value))
    if origin is not None:
        if not isinstance(value, Mapping):
            raise InputError(f"{where} must be a mapping, not {value!r}.")
        return {str(key): _convert(arguments[1], entry, f"{where}.{key}") for key, entry in value.items()}
    # YAML reads 1 as a whole number where a number is meant, and Python takes True for 1.
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise InputError(f"{where} must be {_NAMES[hint]}, not {value!r}.")
    return value
