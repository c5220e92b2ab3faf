"""The picture of a scaling study: each quantity against training compute, both logarithmic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.training.scaling.frontier import Scaling
from diffusion_perception_ros.training.scaling.power_law import PowerLaw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = "viridis"
_INK = "#333333"
_MOST_COLUMNS = 3


def draw_scaling(path: Path, title: str, scalings: Mapping[str, Scaling]) -> None:
    """Write a PNG, one panel a quantity.

    Args:
        path: The file; replaced if it exists.
        title: What was compared.
        scalings: At least one.
    """
    from matplotlib import colormaps  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.lines import Line2D  # noqa: PLC0415

    # From little to much compute, as the colours go from dark to light.
    most = {point.run: point.flops for scaling in scalings.values() for point in scaling.points}
    runs = sorted(most, key=lambda run: most[run])
    colors = dict(zip(runs, colormaps[_COLORS](np.linspace(0, 0.85, len(runs))), strict=True))
    columns = min(_MOST_COLUMNS, len(scalings))
    rows = math.ceil(len(scalings) / columns)
    figure = Figure(figsize=(4.4 * columns, 3.6 * rows + 0.8), layout="constrained")
    figure.suptitle(title, fontsize=11, color=_INK)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, scaling in zip(panels, scalings.values(), strict=False):
        _panel(axes, scaling, colors)
    for axes in panels[len(scalings) :]:
        axes.set_visible(False)
    entries = [Line2D([], [], color=colors[run], marker=".", label=run) for run in runs]
    entries.append(Line2D([], [], color=_INK, marker="o", linestyle="", markerfacecolor="none", label="fitted"))
    entries.append(Line2D([], [], color=_INK, linestyle="--", label="power law"))
    figure.legend(handles=entries, loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)


def _panel(axes: Axes, scaling: Scaling, colors: Mapping[str, NDArray[Any]]) -> None:
    from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator, StrMethodFormatter  # noqa: PLC0415

    for run, color in colors.items():
        own = [point for point in scaling.points if point.run == run]
        axes.plot([p.flops for p in own], [p.value for p in own], color=color, marker=".", linewidth=1.2)
    x, y = [point.flops for point in scaling.fitted], [point.value for point in scaling.fitted]
    axes.scatter(x, y, s=36, facecolors="none", edgecolors=_INK, linewidths=0.8, zorder=3)
    if scaling.law:
        flops = np.geomspace(scaling.fitted[0].flops, scaling.fitted[-1].flops, 100)
        axes.plot(flops, scaling.law(flops), color=_INK, linestyle="--", linewidth=1.2, zorder=2)
    axes.set_title(f"{scaling.label}\n{_formula(scaling.law)}", fontsize=10, color=_INK)
    axes.set_xscale("log")
    axes.set_yscale("log")
    values = [point.value for point in scaling.points]
    if max(values) < 10 * min(values):  # too few powers of ten to find one's way
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("training FLOPs")
    axes.grid(visible=True, which="major", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _formula(law: PowerLaw | None) -> str:
    if law is None:
        return "too few points for a fit"
    constant = f"{law.constant:.3g} + " if law.constant else ""
    mantissa, _, power = f"{law.coefficient:.2e}".partition("e")
    coefficient = rf"{mantissa} \cdot 10^{{{int(power)}}}" if abs(int(power)) > 2 else f"{law.coefficient:.3g}"
    return rf"${constant}{coefficient} \cdot C^{{{law.exponent:.3f}}}$, $R^2$ = {law.r_squared:.3f}"
