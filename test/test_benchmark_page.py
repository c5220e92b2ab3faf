"""The page of docs/benchmarks, from what the command writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from diffusion_perception_ros import cli

_SCRIPTS = Path(__file__).resolve().parent.parent / "benchmark"


def test_a_table_and_a_picture_of_each_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(_SCRIPTS))
    import page  # type: ignore[import-not-found]

    out = tmp_path / "cpu" / "own.json"
    command = ["benchmark", "--device", "cpu", "--size", "64x48", "--rounds", "1", "--warm-up", "0", "--out", str(out)]
    assert cli.main([*command, "--codec", "own,tiny", "--reference"]) == 3
    (tmp_path / "README.md").write_text(f"Before.\n{page._BEGIN}\nold\n{page._END}\nAfter.\n")
    for _ in range(2):
        page.write_page(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("\nAfter.\n")
    assert "old" not in text
    report: dict[str, Any] = json.loads(out.read_text())
    own = report["rows"][0]
    line = next(line for line in text.splitlines() if line.startswith("| embedded, 128x128, depth + flow, 1 step"))
    assert page.number(own["released"]["ratio"]["median"]) in line
    assert "3 x 4" in text
    assert text.count(report["command"]) == 1
    picture = cv2.imread(str(tmp_path / "cpu.png"))
    assert picture is not None
    assert np.unique(picture.reshape(-1, 3), axis=0).shape[0] > 10
