"""How long the stages of a prediction take, measured without holding up the device."""

from __future__ import annotations

import time
from typing import Any

import torch


class StageTimes:
    """A stopwatch of several stages, of which one runs at a time.

    On CUDA the marks are events in the device's own stream, and nothing waits for them before `milliseconds`; elsewhere
    they are the host's clock.

    Args:
        device: Where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.current_stream(device) if device.type == "cuda" else None
        self._marks: list[tuple[str, Any]] = []

    def begin(self, stage: str) -> None:
        """End the stage before and begin this one, anew or once more."""
        self._marks.append((stage, self._mark()))

    def milliseconds(self) -> dict[str, float]:
        """End the last stage; the sum of each, in the order in which they began."""
        self.begin("")
        if self._stream is not None:
            self._stream.synchronize()
        totals: dict[str, float] = {}
        for (stage, start), (_, end) in zip(self._marks, self._marks[1:], strict=False):
            elapsed = 1e3 * (end - start) if self._stream is None else start.elapsed_time(end)
            totals[stage] = totals.get(stage, 0.0) + elapsed
        return totals

    def _mark(self) -> Any:
        if self._stream is None:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(self._stream)
        return event
