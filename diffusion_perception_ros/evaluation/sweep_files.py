"""The results of a sweep: a CSV file and a table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.evaluation.sweep import HEADLINES, Measurement, pareto_front


class SweepCsv:
    """One row a measurement, written at once, so that an interrupted sweep keeps what it has measured.

    Args:
        path: The file; replaced if it exists.
        own_schedule: The schedule that the checkpoint was trained with.

    Raises:
        InputError: The file cannot be written.
    """

    def __init__(self, path: Path, own_schedule: str) -> None:
        self._own_schedule = own_schedule
        try:
            self._file = path.open("w", newline="", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}.") from None
        self._writer: csv.DictWriter[str] | None = None

    def __enter__(self) -> SweepCsv:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, measurement: Measurement) -> None:
        """Add a row."""
        setting = measurement.setting
        row: dict[str, object] = {
            "sampler": setting.sampler,
            "schedule": setting.schedule,
            "own_schedule": setting.schedule == self._own_schedule,
            "steps": setting.steps,
            "ensemble": setting.ensemble,
            "milliseconds": round(measurement.milliseconds, 3),
        }
        for task, metrics in measurement.evaluation.method.items():
            row |= {f"{task}_{name}": value for name, value in metrics.items()}
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, list(row))
            self._writer.writeheader()
        self._writer.writerow(row)
        self._file.flush()


def sweep_table(measurements: Sequence[Measurement]) -> str:
    """The settings that are on the Pareto front of a task, from fast to slow; a star marks for which."""
    tasks = [task for task in HEADLINES if task in measurements[0].evaluation.method]
    fronts = {task: pareto_front(measurements, task) for task in tasks}
    lines = [f"{'sampler':<21}{'schedule':<19}{'steps':>5}{'members':>9}{'ms':>10}"]
    lines[0] += "".join(f"{task + ' ' + HEADLINES[task].label:>20} " for task in tasks)
    for measurement in sorted(measurements, key=lambda m: m.milliseconds):
        if not any(measurement in front for front in fronts.values()):
            continue
        setting = measurement.setting
        line = f"{setting.sampler:<21}{setting.schedule:<19}{setting.steps:>5}{setting.ensemble:>9}"
        line += f"{measurement.milliseconds:>10.1f}"
        for task in tasks:
            value = measurement.evaluation.method[task][HEADLINES[task].metric]
            line += f"{value:>20.3f}{'*' if measurement in fronts[task] else ' '}"
        lines.append(line.rstrip())
    return "\n".join(lines)
