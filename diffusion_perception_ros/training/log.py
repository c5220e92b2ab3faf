"""Logs: CSV always, TensorBoard where it is installed."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Log:
    """Rows of numbers by step in one CSV file.

    Args:
        path: The file.
        step: Where the run goes on; rows after it are from a run that was killed, and are dropped.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self._board = _tensorboard(path.parent / "tensorboard", step)
        rows = self.rows()
        kept = [row for row in rows if int(row["step"]) <= step]
        if len(kept) < len(rows):
            path.unlink()
            for row in kept:
                self._append(row)

    def rows(self) -> list[dict[str, str]]:
        """What has been written; a row that was cut off by a crash is left out."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if None not in row.values()]

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append a row; every row has the same names."""
        self._append({"step": step, **{name: f"{value:.6g}" for name, value in values.items()}})
        for name, value in values.items():
            if self._board is not None:
                self._board.add_scalar(f"{self.path.stem}/{name}", value, step)

    def _append(self, row: Mapping[str, Any]) -> None:
        is_new = not self.path.is_file()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row))
            if is_new:
                writer.writeheader()
            writer.writerow(row)


def _tensorboard(folder: Path, step: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # fails where it is not installed

    return SummaryWriter(str(folder), purge_step=step + 1)
