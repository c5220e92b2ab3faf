from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import shared
from replay_bags import BrightnessPipeline, as_pipeline, read_bag

from diffusion_perception_ros.cli import main
from diffusion_perception_ros.conversions import depth_color
from diffusion_perception_ros.demo.contact_sheet import Row, contact_sheet
from diffusion_perception_ros.demo.demo import run_demo
from diffusion_perception_ros.demo.frames import HEIGHT, WIDTH, recorded_pairs, rendered_pairs
from diffusion_perception_ros.errors import InputError


def test_command_line_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    for _ in range(2):
        assert main(["demo", "--out", str(out), "--frames", "1", "--device", "cpu"]) == 0
        printed = capsys.readouterr().out
        for name in ("input", "output", "contact_sheet.png"):
            assert str(out / name) in printed
    assert sorted(path.name for path in out.iterdir()) == ["contact_sheet.png", "input", "output"]


def test_every_kind_of_result_has_content(tmp_path: Path) -> None:
    result = run_demo(tmp_path, 2, as_pipeline(BrightnessPipeline()))
    assert not result.recorded
    assert (result.summary.frames_processed, result.summary.pairs) == (4, 2)
    assert result.summary.masks > 0
    topics = set(read_bag(result.output_bag))
    assert topics >= {"/camera/image_raw", "/camera/visible_masks"}
    assert topics >= {f"/perception/{name}" for name in ("depth/relative", "flow", "amodal/masks")}


def test_contact_sheet_shows_the_bag(tmp_path: Path) -> None:
    """Each row's depth is that row's brightness."""
    result = run_demo(tmp_path, 2, as_pipeline(BrightnessPipeline()))
    sheet = cv2.imread(str(result.contact_sheet))
    assert sheet is not None
    for pair in rendered_pairs(2):
        depth = depth_color((pair.images[0].mean(axis=2) / 255).astype(np.float32))
        for picture in (np.ascontiguousarray(pair.images[0][..., ::-1]), depth):
            tile = cv2.resize(picture, (360, 270), interpolation=cv2.INTER_CUBIC)
            assert cv2.minMaxLoc(cv2.matchTemplate(sheet, tile, cv2.TM_SQDIFF))[0] < 1e4


def test_random_weights_are_said_in_picture_and_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = Row("frame", [np.zeros((9, 12, 3), np.uint8)] * 3 + ["no masks"])
    plain = contact_sheet("title", "note", [row], 8.0)
    warned = contact_sheet("title", "note", [row], 8.0, warning="RANDOM WEIGHTS")
    assert warned.shape[0] > plain.shape[0]
    assert warned.shape[1:] == plain.shape[1:]
    banner = (warned == (38, 92, 214)).all(axis=2)
    assert banner[:, 0].sum() > 40  # from edge to edge
    assert banner[:, -1].sum() > 40
    main(["demo", "--out", str(tmp_path), "--frames", "1", "--device", "cpu"])
    from diffusion_perception_ros.pipeline import PerceptionPipeline

    is_random = PerceptionPipeline.embedded("cpu").metadata.is_random
    assert ("mean nothing" in capsys.readouterr().out) == is_random
    sheet = cv2.imread(str(tmp_path / "contact_sheet.png"))
    assert sheet is not None
    assert ((sheet == (38, 92, 214)).all(axis=2)[:, 0].sum() > 40) == is_random


def test_real_frames() -> None:
    pairs = recorded_pairs(shared("bags"), 4)
    assert len(pairs) == 4
    assert {pair.labels is not None for pair in pairs} == {True, False}
    for pair in pairs:
        first, second = pair.images
        assert first.shape == second.shape == (HEIGHT, WIDTH, 3)
        assert np.abs(first.astype(int) - second).mean() > 0.1  # something moves
        for labels in pair.labels or ():
            assert labels.shape == (HEIGHT, WIDTH)
            assert labels.any()
    assert len(recorded_pairs(shared("bags"), 1000)) < 1000


def test_unusable_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--out", str(tmp_path), "--frames", "0"]) == 2
    assert "--frames is 0" in capsys.readouterr().err
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "diary.txt").touch()
    with pytest.raises(InputError, match="no bag"):
        run_demo(tmp_path, 1, as_pipeline(BrightnessPipeline()))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        run_demo(tmp_path / "file", 1, as_pipeline(BrightnessPipeline()))
    assert recorded_pairs(tmp_path / "none", 3) == []
