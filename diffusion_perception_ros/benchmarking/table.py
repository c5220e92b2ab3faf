"""Rows of a benchmark for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from diffusion_perception_ros.benchmarking.measure import STAGES

_HEADINGS = (*STAGES, "frames/s", "memory", "x released")


def describe(row: Mapping[str, Any]) -> str:
    """The configuration in one line."""
    steps = f"{row['steps']} step{'s' if row['steps'] > 1 else ''}"
    parts = [row["checkpoint"], f"{row['resolution']}²", "+".join(row["tasks"]), steps, row["dtype"]]
    decoder = [] if row["decoder"] == "own" else [f"{row['decoder']} decoder"]
    return ", ".join([*parts, row["codec"], *decoder, *(["compiled"] if row["compiled"] else [])])


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Milliseconds of each stage, median and quartiles, and what follows from them."""
    names = [describe(row) for row in rows]
    width = max(map(len, names), default=0)
    lines = [f"{'milliseconds':{width}}  " + "  ".join(f"{heading:>17}" for heading in _HEADINGS)]
    for name, row in zip(names, rows, strict=True):
        cells = [row["error"]] if "error" in row else [f"{cell:>17}" for cell in _cells(row)]
        lines.append(f"{name:{width}}  " + "  ".join(cells))
    return "\n".join(lines)


def _cells(row: Mapping[str, Any]) -> list[str]:
    cells = [spread(row["milliseconds"][stage]) for stage in STAGES]
    released = row.get("released", {})
    ratio = spread(released["ratio"]) if "ratio" in released else released.get("error", "")
    return [*cells, f"{row['frames_per_second']:.3g}", memory(row["memory"]), ratio]


def spread(values: Mapping[str, float]) -> str:
    """Median, and quartiles where there is more than one value."""
    quartiles = f" ({number(values['low'])}-{number(values['high'])})" if values["count"] > 1 else ""
    return number(values["median"]) + quartiles


def number(value: float) -> str:
    """Three digits, of large numbers all."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def memory(values: Mapping[str, int | None]) -> str:
    """Weights and, beyond them, the peak."""
    working = "?" if values["working"] is None else megabytes(values["working"])
    return f"{megabytes(values['weights'] or 0)} + {working} MB"


def megabytes(count: int) -> str:
    """Of 1024 * 1024 bytes."""
    return f"{count / 2**20:.0f}"


def rooflines(rows: Sequence[Mapping[str, Any]]) -> str:
    """Of each stage its work, and the share reached of what the device can do, be it computing or moving data.

    Empty where nothing was measured.
    """
    rows = [row for row in rows if "error" not in row]
    if not rows:
        return ""
    names = [describe(row) for row in rows]
    width = max(map(len, names))
    lines = [
        f"measured peaks in {dtype}: {peaks['peak_flops'] / 1e12:.3g} TFLOP/s in a matrix product, "
        f"{peaks['peak_bytes'] / 1e9:.3g} GB/s in a copy"
        for dtype, peaks in {row["dtype"]: row["roofline"] for row in rows}.items()
    ]
    lines.append(f"{'roofline':{width}}  " + "  ".join(f"{stage:>34}" for stage in STAGES[:-1]))
    for name, row in zip(names, rows, strict=True):
        stages = row["roofline"]["stages"]
        cells = [_work(stages[stage]) if stage in stages else "-" for stage in STAGES[:-1]]
        lines.append(f"{name:{width}}  " + "  ".join(f"{cell:>34}" for cell in cells))
    return "\n".join(lines)


def _work(work: Mapping[str, Any]) -> str:
    amount = f"{number(work['flops'] / 1e9)} GFLOP, {number(work['bytes'] / 1e6)} MB"
    return f"{amount}: {work['fraction']:.0%} of {work['bound']}"


def differences(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What differs from the released way's predictions."""
    for row in rows:
        means = row.get("released", {}).get("difference")
        if means:
            listed = ", ".join(f"{task} {value:.1g}" for task, value in means.items())
            yield f"  {describe(row)}: {listed}"
