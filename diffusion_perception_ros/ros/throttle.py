"""Log messages that would be many."""

from __future__ import annotations

import math
import time

_PERIOD = 5.0


class Throttle:
    """Lets a log message of a kind through every five seconds.

    rclpy's own throttling is by line of code, which all kinds of a node share here.
    """

    def __init__(self) -> None:
        self._logged_at: dict[str, float] = {}

    def is_due(self, kind: str) -> bool:
        """Whether to log one of this kind now."""
        now = time.monotonic()
        is_due = now - self._logged_at.get(kind, -math.inf) >= _PERIOD
        if is_due:
            self._logged_at[kind] = now
        return is_due
