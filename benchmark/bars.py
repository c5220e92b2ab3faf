"""A picture of benchmark results: how long the stages take, beside the released way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

_COLORS = {"encode": "#4477aa", "denoise": "#ee8866", "decode": "#44aa88"}
_RELEASED, _INK = "#bbbbbb", "#333333"
# Inches.
_BAR, _TITLE, _WIDTH = 0.27, 0.85, 9.6


def draw(path: Path, reports: Sequence[Mapping[str, Any]]) -> None:
    """Write a PNG, a panel for each result with anything in it.

    Args:
        path: The file; replaced if it exists.
        reports: As ``diffusion-perception benchmark --json`` prints them.
    """
    panels = [(report, _bars(report["rows"])) for report in reports]
    panels = [(report, bars) for report, bars in panels if bars]
    heights = [len(bars) * _BAR + _TITLE for _, bars in panels]
    figure = Figure(figsize=(_WIDTH, sum(heights) + 0.4), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
    for axes, (report, bars) in zip(grid[:, 0], panels, strict=True):
        _panel(axes, report, bars)
    entries = [Patch(color=color, label=stage) for stage, color in _COLORS.items()]
    entries.append(Patch(color=_RELEASED, label="the released way"))
    figure.legend(handles=entries, loc="outside lower center", ncols=len(entries), frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)


def _bars(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, dict[str, float], str]]:
    """Label, milliseconds by colour and what to write behind it; before those it was measured with the released way."""
    bars: list[tuple[str, dict[str, float], str]] = []
    measured = [row for row in rows if "error" not in row]
    for (tasks, steps), group in groupby(measured, lambda row: (row["tasks"], row["steps"])):
        same = list(group)
        asked = f"{' + '.join(tasks)}, {steps} step{'s' if steps > 1 else ''}"
        released = {row["released"]["codec"]: row["released"] for row in same if "ratio" in row.get("released", {})}
        for codec, theirs in released.items():
            time = theirs["total"]["median"]
            bars.append((f"{asked}{_codec(codec)}", {_RELEASED: time}, _duration(time)))
        for row in same:
            kind = "" if row["dtype"] == "float32" else f", {row['dtype']}"
            kind += "" if row["decoder"] == "own" else f", {row['decoder']} decoder"
            compiled = ", compiled" if row["compiled"] else ""
            stages = {color: row["milliseconds"][stage]["median"] for stage, color in _COLORS.items()}
            text = f"{_duration(row['milliseconds']['total']['median'])}, {row['frames_per_second']:.3g} frames/s"
            if "ratio" in row.get("released", {}):
                text += f", {row['released']['ratio']['median']:.3g} times as fast"
            bars.append((f"{asked}{_codec(row['codec'])}{kind}{compiled}", stages, text))
    return bars


def _panel(axes: Axes, report: Mapping[str, Any], bars: Sequence[tuple[str, Mapping[str, float], str]]) -> None:
    is_long = max(sum(stages.values()) for _, stages, _ in bars) >= 2000
    unit, per = ("seconds", 1e3) if is_long else ("milliseconds", 1.0)
    widest = max(sum(stages.values()) for _, stages, _ in bars) / per
    for k, (_, stages, text) in enumerate(bars):
        left = 0.0
        for color, milliseconds in stages.items():
            axes.barh(k, milliseconds / per, left=left, color=color, height=0.72)
            left += milliseconds / per
        axes.text(left + 0.008 * widest, k, text, va="center", fontsize=8, color=_INK)
    axes.set_yticks(range(len(bars)), [label for label, _, _ in bars], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.42 * widest)  # room for what is written behind the longest
    axes.set_xlabel(f"{unit} per frame", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_title(_title(report), fontsize=10, loc="left", color=_INK)
    axes.grid(visible=True, axis="x", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _title(report: Mapping[str, Any]) -> str:
    row = next(row for row in report["rows"] if "error" not in row)
    name = row["checkpoint"].replace("random ", "random weights, ")
    machine = report["machine"]
    return f"{name}, {row['resolution']}x{row['resolution']}, on {machine['device']}, {machine['date']}"


def _codec(name: str) -> str:
    return {"own": "", "kl": ", KL codec", "tiny": ", tiny codec"}.get(name, f", {name}")


def _duration(milliseconds: float) -> str:
    return f"{milliseconds:.3g} ms" if milliseconds < 1000 else f"{milliseconds / 1e3:.3g} s"
