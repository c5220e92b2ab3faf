"""The picture of a sweep: accuracy against measured time, one panel a task."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.evaluation.plot_labels import place_labels
from diffusion_perception_ros.evaluation.sweep import HEADLINES, SCHEDULES, Measurement, best_baseline, pareto_front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

# Okabe and Ito's palette, which people with colour blindness can tell apart.
_COLORS = {
    "ddim": "#999999",
    "ddim_trailing": "#0072B2",
    "dpm_solver": "#009E73",
    "one_step": "#D55E00",
    "one_step_genpercept": "#CC79A7",
}
_MARKERS = dict(zip(SCHEDULES, ("o", "s", "^"), strict=True))
_INK = "#333333"
_LEAST_RANGE = 0.1
_DPI = 150
# Areas in square points.
_ON_FRONT, _BEHIND = 46, 26


def check_plotting() -> None:
    """Find out before hours of measuring.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401, PLC0415
    except ImportError:
        raise InputError(
            "the plot needs matplotlib; install it with: pip install 'diffusion_perception_ros[plot]'."
        ) from None


def draw_sweep(path: Path, title: str, measurements: Sequence[Measurement], own_schedule: str) -> None:
    """Write a PNG.

    Args:
        path: The file; replaced if it exists.
        title: Which checkpoint, device and samples.
        measurements: At least one; the first has the baselines.
        own_schedule: The one that the checkpoint was trained with.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415

    baselines = measurements[0].evaluation.baselines
    tasks = [task for task in HEADLINES if task in measurements[0].evaluation.method]
    figure = Figure(figsize=(max(9, 5 * len(tasks)), 5.4), layout="constrained")
    figure.suptitle(title, fontsize=11, color=_INK)
    panels = list(zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True))
    notes = [_panel(axes, task, measurements, best_baseline(baselines[task], task)) for axes, task in panels]
    for (axes, task), lines in zip(panels, notes, strict=True):
        axes.set_title(task + "\n" * max(map(len, notes)), fontsize=11, color=_INK)
        style = {"fontsize": 8.5, "color": _INK, "ha": "center", "va": "bottom"}
        axes.text(0.5, 1.015, "\n".join(lines), transform=axes.transAxes, **style)
    entries = _legend(measurements, own_schedule)
    figure.legend(handles=entries, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    figure.set_dpi(_DPI)
    figure.draw_without_rendering()  # from here on it is known where everything is
    for axes, task in panels:
        _label(axes, task, measurements, best_baseline(baselines[task], task)[1])
    figure.savefig(path, dpi=_DPI)


def _panel(axes: Axes, task: str, measurements: Sequence[Measurement], baseline: tuple[str, float]) -> list[str]:
    """Draw a task; returns what there is to note."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter  # noqa: PLC0415

    headline = HEADLINES[task]
    front = pareto_front(measurements, task)
    values = [_value(measurement, task) for measurement in measurements]
    bottom, top = _range(values, _value(front[0], task), _value(front[-1], task))
    axes.set_ylim(bottom, top)
    for measurement, (x, y) in zip(measurements, _positions(axes, task, measurements), strict=True):
        on_front = measurement in front
        axes.scatter(
            x,
            y,
            s=_ON_FRONT if on_front else _BEHIND,
            marker=_MARKERS[measurement.setting.schedule],
            color=_COLORS[measurement.setting.sampler],
            edgecolors=_INK if on_front else "none",
            linewidths=1.0 if on_front else 0,
            alpha=1 if on_front else 0.45,
            zorder=3 if on_front else 2,
            clip_on=False,
        )
    times = [measurement.milliseconds for measurement in measurements]
    axes.set_xlim(min(times) / 1.25, max(times) * 1.25)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    staircase = [(measurement.milliseconds, _value(measurement, task)) for measurement in front]
    axes.step(*zip(*staircase, (max(times), staircase[-1][1]), strict=True), where="post", color=_INK, lw=1, zorder=1)
    notes = [_mark_baseline(axes, *baseline)]
    beyond = sum(not bottom <= value <= top for value in values)
    if beyond:
        edge = "lower" if headline.larger_is_better else "upper"
        notes.append(f"{beyond} worse {'one is' if beyond == 1 else 'ones are'} on the {edge} edge")
    axes.set_ylabel(f"{headline.label}, {'higher' if headline.larger_is_better else 'lower'} is better")
    axes.set_xlabel("milliseconds per frame, all tasks together")
    axes.grid(visible=True, which="major", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return notes


def _label(axes: Axes, task: str, measurements: Sequence[Measurement], baseline: float) -> None:
    """Write steps × members at the points of the front."""
    front = pareto_front(measurements, task)
    points = _positions(axes, task, front)
    staircase = [corner for (x, y), (right, _) in pairwise(points) for corner in ((x, y), (right, y))]
    staircase += [points[-1], (max(m.milliseconds for m in measurements), points[-1][1])]
    place_labels(
        axes,
        [(f"{m.setting.steps}×{m.setting.ensemble}", x, y) for m, (x, y) in zip(front, points, strict=True)],
        _positions(axes, task, measurements),
        [staircase, [(x, baseline) for x in axes.get_xlim()]],
        marker_size=_ON_FRONT**0.5,
        above=HEADLINES[task].larger_is_better,
        color=_INK,
    )


def _value(measurement: Measurement, task: str) -> float:
    return measurement.evaluation.method[task][HEADLINES[task].metric]


def _positions(axes: Axes, task: str, measurements: Sequence[Measurement]) -> list[tuple[float, float]]:
    """Where points are drawn: those beyond the y axis on its edge."""
    bottom, top = axes.get_ylim()
    return [(m.milliseconds, min(max(_value(m, task), bottom), top)) for m in measurements]


def _mark_baseline(axes: Axes, name: str, value: float) -> str:
    """Draw its line; returns what to say about it."""
    label = f"best baseline: {name.replace('_', ' ')} {value:.3f}"
    bottom, top = axes.get_ylim()
    if bottom <= value <= top:
        axes.axhline(value, color=_INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        return label + " (dashed)"
    return label + (" (above this axis)" if value > top else " (below this axis)")


def _range(values: Sequence[float], fastest: float, best: float) -> tuple[float, float]:
    """The y axis: all values, unless those that fail would hide the differences between the others."""
    # A narrower range would make much of differences that mean nothing.
    least = _LEAST_RANGE * max(abs(fastest), abs(best))
    reach = max(least, 3 * abs(fastest - best))
    near = [value for value in values if abs(value - best) <= reach]
    missing = max(0.0, least - (max(near) - min(near)))
    margin = 0.12 * max(max(near) - min(near), least) or 1e-3
    return min(near) - missing / 2 - margin, max(near) + missing / 2 + margin


def _legend(measurements: Sequence[Measurement], own_schedule: str) -> list[Line2D]:
    from matplotlib.lines import Line2D  # noqa: PLC0415

    present = {m.setting.sampler for m in measurements} | {m.setting.schedule for m in measurements}
    entries = [
        Line2D([], [], marker="o", linestyle="", color=color, label=name)
        for name, color in _COLORS.items()
        if name in present
    ]
    entries += [
        Line2D(
            [],
            [],
            marker=marker,
            linestyle="",
            color=_INK,
            markerfacecolor="none",
            label=f"{name} (trained with it)" if name == own_schedule else name,
        )
        for name, marker in _MARKERS.items()
        if name in present
    ]
    entries.append(Line2D([], [], color=_INK, linewidth=1, label="Pareto front (steps × members)"))
    return entries
