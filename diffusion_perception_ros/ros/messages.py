"""Field dicts, as the conversions make them, become messages of rclpy's classes."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from diffusion_perception_ros.conversions.fields import Fields


@cache
def message_class(name: str) -> Any:
    """The class of a type such as ``sensor_msgs/msg/Image`` (or ``sensor_msgs/Image``)."""
    package, _, kind = name.partition("/")
    return getattr(import_module(f"{package}.msg"), kind.rpartition("/")[2])


def bind(kind: Any, fields: Fields) -> Any:
    """A message of the class, to be published at once and not changed: its arrays are those of ``fields``.

    Everything else has to be a plain Python value already, because rclpy does not look at it before it serialises.
    """
    message = kind()
    _fill(message, fields)
    return message


def _fill(message: Any, fields: Fields) -> None:
    for name, value in fields.items():
        if isinstance(value, np.ndarray):
            # Past the property, which would copy, and that element by element. What serialises takes any buffer.
            setattr(message, f"_{name}", value.data)
        elif isinstance(value, dict):
            _fill(getattr(message, name), value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            element = message.get_fields_and_field_types()[name].partition("<")[2].rstrip(">")
            setattr(message, name, [bind(message_class(element), item) for item in value])
        else:
            setattr(message, name, value)
