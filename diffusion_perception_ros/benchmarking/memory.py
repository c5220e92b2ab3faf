"""How much memory a call takes at its peak, on the device or, on a CPU, of the process."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class WorkingMemory:
    """The most that is allocated within a ``with`` block beyond what was there before.

    Args:
        device: On CUDA what PyTorch has allocated; on a CPU the process' resident set (Linux alone). What the process
            keeps although it was freed is returned before, and has to be asked for anew within: no time to be measured.

    Attributes:
        peak: Bytes; None where it cannot be measured.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.peak: int | None = None

    def __enter__(self) -> WorkingMemory:
        self._start = self._reset()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._start is not None:
            self.peak = self._highest() - self._start

    def _reset(self) -> int | None:
        """Forget earlier peaks; what is allocated now."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return torch.cuda.memory_allocated(self._device)
        with suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        try:
            _RESET.write_text("5")  # the peak of the resident set, see proc(5)
            return _kilobytes("VmRSS") * 1024
        except OSError:
            return None

    def _highest(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return _kilobytes("VmHWM") * 1024


def resident_bytes() -> int:
    """Of this process (Linux)."""
    return _kilobytes("VmRSS") * 1024


def _kilobytes(field: str) -> int:
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
