"""Logs: CSV always, TensorBoard where it is installed."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Log:
    """Rows of numbers by step in one CSV file.

    A run that is resumed with other tasks has other columns: cells are empty where a row has no value.

    Args:
        path: The file.
        step: Where the run goes on; rows after it are from a run that was killed, and are dropped.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self._board = _tensorboard(path.parent / "tensorboard", step)
        self._columns: list[str] = []
        rows = [row for row in read_rows(path) if int(row["step"]) <= step]
        if rows:  # even if all of them stay: behind them may be a piece of one that a crash cut off
            self._rewrite(rows)
        else:
            path.unlink(missing_ok=True)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append a row."""
        row = {"step": str(step), **{name: f"{value:.6g}" for name, value in values.items()}}
        if row.keys() <= set(self._columns):
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns).writerow(row)
        else:
            self._rewrite([*read_rows(self.path), row])
        for name, value in values.items():
            if self._board is not None:
                self._board.add_scalar(f"{self.path.stem}/{name}", value, step)

    def _rewrite(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Write the whole file; whoever is killed meanwhile leaves the one before."""
        self._columns = list(dict.fromkeys(name for row in rows for name in row))
        partial = self.path.with_suffix(".partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(self.path)


def read_rows(path: Path) -> list[dict[str, str]]:
    """What a log holds; a row that was cut off by a crash is left out."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if None not in row and None not in row.values()]


def _tensorboard(folder: Path, step: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # fails where it is not installed

    return SummaryWriter(str(folder), purge_step=step + 1)
