"""How the quality of several runs grows with compute: the best points, and power laws through them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.training.scaling.power_law import LEAST_POINTS, PowerLaw, fit_power_law
from diffusion_perception_ros.training.scaling.runs import Point, read_columns, read_curve

LOSS = "loss"
# Without load balancing, whose loss grows with the number of blocks; runs without tasks have none.
_TASK_LOSS = "task_loss"


@dataclass(frozen=True)
class Metric:
    """A column of ``validation.csv``, without the number of sampling steps.

    Attributes:
        label: What is fitted.
        rises: The best value is 1, so what is fitted is what is missing to it.
    """

    label: str
    rises: bool = False


METRICS = {
    "abs_rel": Metric("AbsRel"),
    "epe_ratio": Metric("EPE / zero flow's"),
    "iou": Metric("1 - IoU", rises=True),
    "iou_hidden": Metric("1 - hidden IoU", rises=True),
    "angle": Metric("normals' angle (°)"),
}


@dataclass(frozen=True)
class Scaling:
    """How one quantity falls with compute.

    Attributes:
        label: What it is.
        points: Of all runs.
        fitted: Those that the law is fitted to, by compute.
        law: None if they are too few for one.
    """

    label: str
    points: list[Point]
    fitted: list[Point]
    law: PowerLaw | None


def measure_scaling(folders: Sequence[Path], *, final: bool = False) -> dict[str, Scaling]:
    """Power laws of the loss and the metrics of some runs.

    Args:
        folders: As training wrote them.
        final: Fit to the last point of each run instead of to the compute frontier.

    Returns:
        By column of the logs: ``loss``, and metrics such as ``abs_rel_1``.

    Raises:
        InputError: A folder has no log, or one that does not say what steps took, or values without logarithm; the runs
            have different losses; or the loss has too few points for a law.
    """
    runs = _names(folders)
    losses, validations = ({n: f / f"{log}.csv" for n, f in runs.items()} for log in ("losses", "validation"))
    column = _loss_column(losses)
    scalings = {LOSS: _scaling("training loss", [read_curve(p, n, column) for n, p in losses.items()], final)}
    if scalings[LOSS].law is None:
        raise InputError(
            f"the loss has {len(scalings[LOSS].fitted)} points to fit, and a power law needs {LEAST_POINTS}; "
            "name more runs, or train with a lower report.log."
        )
    for column, metric in _common_metrics(validations).items():
        curves = [read_curve(p, n, column, rises=metric.rises, gaps=True) for n, p in validations.items()]
        if any(curves):
            scalings[column] = _scaling(metric.label, curves, final)
    return scalings


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Those that no other one beats in both compute and value, by compute."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.flops, p.value)):
        if not front or point.value < front[-1].value:
            front.append(point)
    return front


def _scaling(label: str, curves: Sequence[Sequence[Point]], final: bool) -> Scaling:
    points = [point for curve in curves for point in curve]
    ends = sorted((curve[-1] for curve in curves if curve), key=lambda point: point.flops)
    fitted = ends if final else pareto_front(points)
    law = None
    if len(fitted) >= LEAST_POINTS:
        law = fit_power_law([point.flops for point in fitted], [point.value for point in fitted])
    return Scaling(label, points, fitted, law)


def _names(folders: Sequence[Path]) -> dict[str, Path]:
    """The folders by their names, or by their paths where two have one name."""
    names = [folder.resolve().name for folder in folders]
    return {str(folder) if names.count(name) > 1 else name: folder for folder, name in zip(folders, names, strict=True)}


def _loss_column(paths: Mapping[str, Path]) -> str:
    """The column to fit, of logs that are there and are of one kind."""
    columns = {path: read_columns(path) for path in paths.values()}
    (first, expected), *_ = columns.items()
    for path, found in columns.items():
        if not found:
            raise InputError(f"{path}: no log of a training run; name folders that `train` has written.")
        if not {"step", "flops", LOSS} <= set(found):
            raise InputError(f"{path} lacks a column flops or loss, so there is nothing to fit; train that run anew.")
        differing = sorted(set(found) ^ set(expected))
        if differing:
            raise InputError(
                f"{first} and {path} have different losses ({', '.join(differing)}), which cannot be compared; "
                "name runs of the same tasks and losses."
            )
    return _TASK_LOSS if _TASK_LOSS in expected else LOSS


def _common_metrics(paths: Mapping[str, Path]) -> dict[str, Metric]:
    """Each metric with the first number of sampling steps that all runs validated."""
    first, *others = [read_columns(path) for path in paths.values()]
    common = [column for column in first if all(column in columns for columns in others)]
    found = {}
    for name, metric in METRICS.items():
        columns = [column for column in common if re.fullmatch(rf"{name}_\d+", column)]
        if columns:
            found[columns[0]] = metric
    return found
