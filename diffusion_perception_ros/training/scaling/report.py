"""The fits as a table for people, as JSON for programs, and the points as a CSV file."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

from diffusion_perception_ros.training.scaling.frontier import Scaling
from diffusion_perception_ros.training.scaling.power_law import LEAST_POINTS


def to_table(scalings: Mapping[str, Scaling]) -> str:
    """One line for each quantity."""
    lines = [f"{'':<18}{'exponent':>10}{'coefficient':>13}{'constant':>10}{'R2':>8}{'points':>8}{'FLOPs':>20}"]
    for scaling in scalings.values():
        law, line = scaling.law, f"{scaling.label:<18}"
        if law is None:
            line += f"  {len(scaling.fitted)} of {LEAST_POINTS} points that a fit needs"
        else:
            reach = f"{scaling.fitted[0].flops:.2g} to {scaling.fitted[-1].flops:.2g}"
            line += f"{law.exponent:>10.4f}{law.coefficient:>13.4g}{law.constant:>10.4g}{law.r_squared:>8.3f}"
            line += f"{law.points:>8}{reach:>20}"
        lines.append(line)
    return "\n".join(lines)


def to_json(scalings: Mapping[str, Scaling], settings: Mapping[str, object]) -> str:
    """One object: ``fits`` by column of the logs, null where there are too few points, and ``settings``."""
    fits: dict[str, object] = {}
    for column, scaling in scalings.items():
        law = scaling.law
        fits[column] = law and {
            "quantity": scaling.label,
            **vars(law),
            "flops": [scaling.fitted[0].flops, scaling.fitted[-1].flops],
        }
    return json.dumps({"fits": fits, "settings": settings}, indent=2, allow_nan=False)


def write_points(path: Path, scalings: Mapping[str, Scaling]) -> None:
    """Every point of every run, and whether a law was fitted to it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["column", "run", "step", "flops", "value", "fitted"])
        for column, scaling in scalings.items():
            for p in scaling.points:
                writer.writerow([column, p.run, p.step, f"{p.flops:.6g}", f"{p.value:.6g}", p in scaling.fitted])
