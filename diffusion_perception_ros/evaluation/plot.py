"""The picture of a sweep: accuracy against measured time, one panel a task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.evaluation.sweep import HEADLINES, SCHEDULES, Measurement, best_baseline, pareto_front

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    from matplotlib.lines import Line2D  # noqa: PLC0415

    baselines = measurements[0].evaluation.baselines
    tasks = [task for task in HEADLINES if task in measurements[0].evaluation.method]
    figure = Figure(figsize=(max(9, 5 * len(tasks)), 5.4), layout="constrained")
    figure.suptitle(title, fontsize=11, color=_INK)
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        _panel(axes, task, measurements, best_baseline(baselines[task], task))
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
            label=_schedule_label(name, own_schedule),
        )
        for name, marker in _MARKERS.items()
        if name in present
    ]
    entries.append(Line2D([], [], color=_INK, linewidth=1, label="Pareto front (steps × members)"))
    figure.legend(handles=entries, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)


def _panel(axes: Axes, task: str, measurements: Sequence[Measurement], baseline: tuple[str, float]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter  # noqa: PLC0415

    headline = HEADLINES[task]
    front = pareto_front(measurements, task)

    def value(measurement: Measurement) -> float:
        return measurement.evaluation.method[task][headline.metric]

    bottom, top = _range([*map(value, measurements)], value(front[0]), value(front[-1]))
    axes.set_ylim(bottom, top)
    for measurement in measurements:
        on_front = measurement in front
        axes.scatter(
            measurement.milliseconds,
            min(max(value(measurement), bottom), top),
            s=46 if on_front else 26,
            marker=_MARKERS[measurement.setting.schedule],
            color=_COLORS[measurement.setting.sampler],
            edgecolors=_INK if on_front else "none",
            linewidths=1.0 if on_front else 0,
            alpha=1 if on_front else 0.45,
            zorder=3 if on_front else 2,
            clip_on=False,
        )
    x = [measurement.milliseconds for measurement in measurements]
    axes.set_xlim(min(x) / 1.25, max(x) * 1.25)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    points = [(measurement.milliseconds, value(measurement)) for measurement in front]
    axes.step(*zip(*points, (max(x), points[-1][1]), strict=True), where="post", color=_INK, linewidth=1, zorder=1)
    _label(axes, front, points, above=headline.larger_is_better)
    _mark_baseline(axes, *baseline)
    beyond = sum(not bottom <= value(measurement) <= top for measurement in measurements)
    if beyond:
        edge, height = ("lower", 0.04) if headline.larger_is_better else ("upper", 0.9)
        axes.text(0.98, height, f"{beyond} worse ones\non the {edge} edge", **_note(axes), ha="right")
    axes.set_title(f"{task}\n", fontsize=11, color=_INK)
    axes.set_ylabel(f"{headline.label}, {'higher' if headline.larger_is_better else 'lower'} is better")
    axes.set_xlabel("milliseconds per frame, all tasks together")
    axes.grid(visible=True, which="major", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _label(axes: Axes, front: Sequence[Measurement], points: Sequence[tuple[float, float]], above: bool) -> None:
    """Write steps × members at each point that is not covered by the label before it."""
    last = None
    for measurement, point in zip(front, points, strict=True):
        x, y = axes.transAxes.inverted().transform(axes.transData.transform(point))
        if last is not None and abs(x - last[0]) < 0.07 and abs(y - last[1]) < 0.05:
            continue
        last = x, y
        axes.annotate(
            f"{measurement.setting.steps}×{measurement.setting.ensemble}",
            point,
            xytext=(0, 7 if above else -14),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=_INK,
        )


def _mark_baseline(axes: Axes, name: str, value: float) -> None:
    label = f"best baseline: {name.replace('_', ' ')} {value:.3f}"
    bottom, top = axes.get_ylim()
    if bottom <= value <= top:
        axes.axhline(value, color=_INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        label += " (dashed)"
    else:
        label += " (above this axis)" if value > top else " (below this axis)"
    axes.text(0.5, 1.015, label, **_note(axes), ha="center")


def _range(values: Sequence[float], fastest: float, best: float) -> tuple[float, float]:
    """The y axis: all values, unless those that fail would hide the differences between the others."""
    # A narrower range would make much of differences that mean nothing.
    least = _LEAST_RANGE * max(abs(fastest), abs(best))
    reach = max(least, 3 * abs(fastest - best))
    near = [value for value in values if abs(value - best) <= reach]
    missing = max(0.0, least - (max(near) - min(near)))
    margin = 0.12 * max(max(near) - min(near), least) or 1e-3
    return min(near) - missing / 2 - margin, max(near) + missing / 2 + margin


def _note(axes: Axes) -> dict[str, Any]:
    return {"transform": axes.transAxes, "fontsize": 8.5, "color": _INK}


def _schedule_label(name: str, own: str) -> str:
    return f"{name} (trained with it)" if name == own else name
