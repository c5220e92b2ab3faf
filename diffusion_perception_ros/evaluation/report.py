"""Results as a table for people and as JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from diffusion_perception_ros.evaluation.evaluate import Evaluation, Metrics
from diffusion_perception_ros.evaluation.metrics import HIDDEN_SHARE, MINIMUM_DEPTH


class _Column(NamedTuple):
    metric: str
    heading: str
    decimals: int
    factor: float = 1.0


class _Section(NamedTuple):
    title: str
    columns: tuple[_Column, ...]


_SECTIONS = {
    "depth": _Section(
        "depth after least-squares scale and shift",
        (
            _Column("abs_rel", "AbsRel", 3),
            _Column("delta1", "delta1", 3),
            _Column("delta2", "delta2", 3),
            _Column("delta3", "delta3", 3),
            _Column("rmse", "RMSE m", 3),
            _Column("silog", "SILog", 1),
        ),
    ),
    "flow": _Section(
        "flow",
        (
            _Column("epe", "EPE px", 2),
            _Column("relative", "of zero %", 1, 100),
            _Column("fl_all", "Fl-all %", 1, 100),
            _Column("coverage", "coverage %", 1, 100),
        ),
    ),
    "amodal": _Section("amodal masks", (_Column("iou", "mIoU", 3), _Column("iou_hidden", "mIoU hidden", 3))),
    "normals": _Section(
        "surface normals",
        (
            _Column("mean", "mean deg", 1),
            _Column("median", "median deg", 1),
            _Column("within_11.25", "<11.25 deg %", 1, 100),
            _Column("within_22.5", "<22.5 deg %", 1, 100),
            _Column("within_30", "<30 deg %", 1, 100),
            _Column("coverage", "coverage %", 1, 100),
        ),
    ),
    "temporal": _Section(
        "depth over time, one scale and shift per sequence", (_Column("flicker", "flicker %", 2, 100),)
    ),
}

PROTOCOL = {
    "depth_alignment": "least-squares scale and shift over the valid pixels of each sample",
    "minimum_depth_m": MINIMUM_DEPTH,
    "flow_without_prediction": "scored as zero flow",
    "hidden_share": HIDDEN_SHARE,
    "normals_without_prediction": "scored as wrong by 90 degrees",
    "average": "over pixels or instances of a sample, then over samples",
}
"""What every number depends on; see docs/evaluation.md."""


@dataclass(frozen=True)
class Report:
    """An evaluation with what it was made with.

    Attributes:
        name: Of the method, for the table.
        evaluation: The numbers.
        settings: Everything that they depend on, as JSON values.
    """

    name: str
    evaluation: Evaluation
    settings: Mapping[str, Any]

    def to_json(self) -> str:
        """One object: the tasks, ``baselines`` and ``settings``; null where a metric is not defined.

        If samples have no prediction, ``missing`` says how many, by task; if their times are known, ``stage_ms`` is the
        median by stage.
        """
        tasks = {task: _plain(metrics) for task, metrics in self.evaluation.method.items()}
        baselines = {
            task: {name: _plain(metrics) for name, metrics in named.items()}
            for task, named in self.evaluation.baselines.items()
        }
        missing = {"missing": self.evaluation.missing} if self.evaluation.missing else {}
        times = {"stage_ms": self.evaluation.stage_ms} if self.evaluation.stage_ms else {}
        return json.dumps({**tasks, "baselines": baselines, **missing, **times, "settings": self.settings}, indent=2)

    def to_text(self) -> str:
        """A table for each task: the method, then its baselines."""
        missing = self.evaluation.missing
        tables = [
            _table(task, {self.name: metrics, **self.evaluation.baselines[task]}, missing.get(task, 0))
            for task, metrics in self.evaluation.method.items()
        ]
        unanswered = missing.keys() - self.evaluation.method.keys()
        tables += [
            f"{_SECTIONS[task].title}: {_counted(missing[task], task)}, all without prediction"
            for task in _SECTIONS
            if task in unanswered
        ]
        if self.evaluation.stage_ms:
            stages = ", ".join(f"{stage} {ms:.1f}" for stage, ms in self.evaluation.stage_ms.items())
            tables.append(f"median ms of a sample, all its tasks together: {stages}")
        return "\n\n".join(tables)


def _plain(metrics: Metrics) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _counted(count: float, task: str) -> str:
    return f"{count:.0f} {'sequences' if task == 'temporal' else 'samples'}"


def _table(task: str, rows: Mapping[str, Metrics], missing: int) -> str:
    title, columns = _SECTIONS[task]
    first = next(iter(rows.values()))
    count = _counted(first["samples"], task)
    if "samples_hidden" in first:
        count += f", {first['samples_hidden']:.0f} with a hidden part"
    if missing:
        count += f", {missing} more without prediction"
    names = [name if i == 0 else name.replace("_", " ") for i, name in enumerate(rows)]
    width = max(20, *map(len, names))
    lines = [f"{title} ({count})", " " * width + "".join(f"{column.heading:>13}" for column in columns)]
    for name, metrics in zip(names, rows.values(), strict=True):
        values = {**metrics, "relative": metrics["epe"] / metrics["epe_zero"]} if task == "flow" else metrics
        lines.append(f"{name:<{width}}" + "".join(_cell(values[column.metric], column) for column in columns))
    return "\n".join(lines)


def _cell(value: float, column: _Column) -> str:
    return f"{'-':>13}" if math.isnan(value) else f"{value * column.factor:>13.{column.decimals}f}"
