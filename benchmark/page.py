"""The page of docs/benchmarks: a table of each result there, and a picture of all.

    python benchmark/page.py

Draws anew what stands in the JSON files; the text around it is written by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bars import draw

from diffusion_perception_ros.benchmarking.measure import STAGES
from diffusion_perception_ros.benchmarking.table import memory, number, spread

_ROOT = Path(__file__).resolve().parent.parent
_BEGIN, _END = "<!-- results: `python benchmark/page.py` writes them -->", "<!-- end of results -->"
_HEADINGS = ("", *(f"{stage}, ms" for stage in STAGES), "frames/s", "memory", "released way, ms", "times as fast")


def write_page(folder: Path) -> None:
    """Renew what is between the marks of ``README.md`` in the folder, made if need be, and the pictures."""
    page = folder / "README.md"
    text = page.read_text(encoding="utf-8") if page.exists() else f"# Benchmarks\n\n{_BEGIN}\n{_END}\n"
    before, _, rest = text.partition(_BEGIN)
    after = rest.partition(_END)[2]
    devices = sorted({path.parent.name for path in folder.glob("*/*.json")}, key=lambda name: (name == "cpu", name))
    sections = [_section(folder, device) for device in devices]
    page.write_text(f"{before}{_BEGIN}\n\n" + "\n\n".join(sections) + f"\n\n{_END}{after}", encoding="utf-8")


def _section(folder: Path, device: str) -> str:
    """All results of one device, which has a folder, and a picture of them."""
    files = sorted((folder / device).glob("*.json"), key=lambda file: (file.stem != "embedded", file.stem))
    reports = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    draw(folder / f"{device}.png", reports)
    lines = [
        f"## {reports[0]['machine']['device']}",
        "",
        f"![Milliseconds of each stage, and frames a second]({device}.png)",
    ]
    for file, report in zip(files, reports, strict=True):
        lines += ["", *_table(report, f"{device}/{file.name}")]
    return "\n".join(lines)


def _table(report: Mapping[str, Any], link: str) -> Iterator[str]:
    machine, frame = report["machine"], report["frame"]
    yield f"`{report['command']}`"
    yield ""
    where = f"{machine['threads']} threads, " if machine["device_type"] == "cpu" else ""
    load = f", load {machine['load']} before" if machine["load"] is not None else ""
    yield (
        f"{where}torch {machine['torch']}, {machine['date']}, commit {machine['commit'] or 'unknown'}{load}; frames of "
        f"{frame['width']}x{frame['height']}, objects: {frame['instances']} ([JSON]({link}))"
    )
    yield ""
    yield "| " + " | ".join(_HEADINGS) + " |"
    yield "|---" + "|---:" * (len(_HEADINGS) - 1) + "|"
    for row in report["rows"]:
        yield f"| {name_of(row)} | " + " | ".join(_cells(row)) + " |"
    yield ""
    yield from _rooflines(report["rows"])


def name_of(row: Mapping[str, Any]) -> str:
    """The configuration, short enough for a table."""
    checkpoint = row["checkpoint"].removeprefix("random ")
    codec = {"own": "", "kl": ", KL codec", "tiny": ", tiny codec"}.get(row["codec"], f", {row['codec']}")
    steps = f"{row['steps']} step{'s' if row['steps'] > 1 else ''}"
    codec += "" if row["decoder"] == "own" else f", {row['decoder']} decoder"
    compiled = ", compiled" if row["compiled"] else ""
    tasks = " + ".join(row["tasks"])
    return f"{checkpoint}, {row['resolution']}x{row['resolution']}, {tasks}, {steps}, {row['dtype']}{codec}{compiled}"


def _cells(row: Mapping[str, Any]) -> list[str]:
    if "error" in row:
        return [row["error"], *[""] * (len(_HEADINGS) - 2)]
    released = row.get("released", {})
    theirs = [spread(released["total"]), spread(released["ratio"])] if "ratio" in released else ["", ""]
    times = [spread(row["milliseconds"][stage]) for stage in STAGES]
    return [*times, number(row["frames_per_second"]), memory(row["memory"]), *theirs]


def _rooflines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Of the transformer's step and of the codec, the share of the roofline that is reached."""
    measured = [row for row in rows if "error" not in row]
    for dtype, peaks in {row["dtype"]: row["roofline"] for row in measured}.items():
        yield (
            f"Measured peaks in {dtype}: {peaks['peak_flops'] / 1e12:.3g} TFLOP/s in a matrix product, "
            f"{peaks['peak_bytes'] / 1e9:.3g} GB/s in a copy. Shares of what these allow:"
        )
        yield ""
        for row in measured:
            stages = row["roofline"]["stages"]
            if row["dtype"] == dtype and stages:
                shares = [
                    f"{stage} {number(work['flops'] / 1e9)} GFLOP, {work['fraction']:.0%} ({work['bound']})"
                    for stage, work in stages.items()
                ]
                yield f"- {name_of(row)}: " + "; ".join(shares)


if __name__ == "__main__":
    write_page(_ROOT / "docs" / "benchmarks")
