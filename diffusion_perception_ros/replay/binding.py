"""Field dicts, as the conversions make them, become messages of rosbags' classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype

from diffusion_perception_ros.conversions.fields import Fields
from diffusion_perception_ros.replay.definitions import typestore


def bind(kind: str, fields: Fields) -> Any:
    """A message of the type, which wants every field, and arrays as numpy arrays of the exact element type."""
    values: dict[str, Any] = {}
    for name, description in typestore().fielddefs[kind][1]:
        value = fields[name]
        if description[0] == Nodetype.NAME:
            value = bind(description[1], value)
        elif description[0] in (Nodetype.ARRAY, Nodetype.SEQUENCE):
            (element_node, element), _ = description[1]
            if element_node == Nodetype.NAME:
                value = [bind(str(element), item) for item in value]
            elif element[0] != "string":
                value = np.asarray(value, element[0])
        values[name] = value
    return typestore().types[kind](**values)
