"""From one frame to the next: the last prediction moves along the predicted flow and takes part in the new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffusion_perception_ros.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection

TEMPORAL_MODES = ("off", "moving_average", "warm_start")


def check_temporal(mode: str, known_tasks: Collection[str]) -> None:
    """Refuse a mode that there is not, or that a checkpoint cannot do.

    Args:
        mode: One of `TEMPORAL_MODES`.
        known_tasks: Tasks of the checkpoint.

    Raises:
        InputError: The mode is unknown, or the checkpoint knows no flow to move a prediction along.
    """
    if mode not in TEMPORAL_MODES:
        raise InputError(f"temporal {mode!r} is unknown; use one of {', '.join(TEMPORAL_MODES)}.")
    if mode != "off" and not {"depth", "flow"} <= set(known_tasks):
        raise InputError(
            f"temporal {mode!r} moves depth along the flow, but the checkpoint knows {', '.join(known_tasks)} only; "
            "set it to 'off'."
        )
