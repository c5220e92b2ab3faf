"""What the package reports about its own work -> the fields of diffusion_perception_ros/PerceptionStatus."""

from __future__ import annotations

from enum import IntEnum
from math import nan
from typing import Any

from diffusion_perception_ros.conversions.fields import Fields


class MetricState(IntEnum):
    """Whether depth is anchored to metres, and if not, why: the METRIC_* constants of PerceptionStatus."""

    OFF = 0
    TRUSTED = 1
    NO_REFERENCE = 2
    STALE = 3
    POOR_FIT = 4


# In the order of the message; a tuple holds the type of an array's elements.
_DEFAULTS: Fields = {
    "pair_stamp": {"sec": 0, "nanosec": 0},
    "checkpoint": "",
    "device": "",
    "dtype": "",
    "codec": "",
    "sampler": "",
    "tasks": (str,),
    "num_inference_steps": (int,),
    "ensemble_size": 1,
    "budget_ms": nan,
    "input_age_ms": nan,
    "convert_ms": nan,
    "encode_ms": nan,
    "denoise_ms": nan,
    "decode_ms": nan,
    "publish_ms": nan,
    "total_ms": nan,
    "frames_received": 0,
    "frames_processed": 0,
    "drop_reasons": (str,),
    "drop_counts": (int,),
    "metric_state": 0,
    "depth_scale": nan,
    "depth_shift": nan,
    "depth_inlier_ratio": nan,
    "reference_age": nan,
    "device_memory": 0,
    "warm_started": False,
    "degraded_reason": "",
}


def perception_status_fields(header: Fields, **values: Any) -> Fields:
    """diffusion_perception_ros/PerceptionStatus with every field present.

    Args:
        header: Header of the processed frame.
        **values: The fields that are known, under their names in the message definition, where their units
            are. What is left out is empty, 0, false or NaN (and one for ``ensemble_size``).

    Raises:
        TypeError: If the message has no field of that name.
    """
    unknown = sorted(values.keys() - _DEFAULTS.keys())
    if unknown:
        raise TypeError(f"PerceptionStatus has no field {', '.join(unknown)}")
    fields: Fields = {"header": header}
    for name, default in _DEFAULTS.items():
        if isinstance(default, tuple):
            fields[name] = [default[0](element) for element in values.get(name, ())]
        else:
            fields[name] = type(default)(values.get(name, default))
    return fields
