"""Which two frames make a pair for optical flow."""

from __future__ import annotations

from diffusion_perception_ros.frames.frame import NANOSECONDS, Frame


def reason_against(first: Frame, second: Frame, max_frame_gap: float | None) -> str | None:
    """Why two frames make no pair, or None.

    ``zero_stamp``, ``time_jump``, ``resolution_changed``, ``second_is_earlier`` or ``frame_gap`` (in seconds).
    """
    if not first.stamp or not second.stamp:
        return "zero_stamp"
    if first.segment != second.segment:
        return "time_jump"
    if first.image.shape != second.image.shape:
        return "resolution_changed"
    if second.stamp < first.stamp:
        return "second_is_earlier"
    if max_frame_gap is not None and second.stamp - first.stamp > max_frame_gap * NANOSECONDS:
        return "frame_gap"
    return None
