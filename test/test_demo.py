from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from replay_bags import BrightnessPipeline, as_pipeline, read_bag

from diffusion_perception_ros.cli import main
from diffusion_perception_ros.conversions import depth_color
from diffusion_perception_ros.demo import DemoResult, DemoSettings, run_demo
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.scenes import EVALUATION_SEED, draw_scene, render

FILES = ["contact_sheet.png", "predictions", "report.json", "report.txt", "scenes"]
BANNER = (38, 92, 214)


@pytest.fixture(scope="module")
def brightness(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoResult]:
    """A demo whose answers are easy to predict."""
    out = tmp_path_factory.mktemp("demo")
    return out, run_demo(out, as_pipeline(BrightnessPipeline()), DemoSettings(2, 2))


def has_banner(sheet: object) -> bool:
    """From edge to edge."""
    pixels = np.asarray(sheet) == BANNER
    return bool((pixels.all(axis=2).all(axis=1)).sum() > 10)


def test_command_line_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second run replaces the first; that weights are random is said in text and picture."""
    out = tmp_path / "demo"
    for scenes in ("2", "1"):
        assert main(["demo", "--out", str(out), "--device", "cpu", "--scenes", scenes, "--frames", "2"]) == 0
    printed = capsys.readouterr().out
    table = (out / "report.txt").read_text()
    assert table in printed
    for heading in (
        "depth after least-squares scale and shift (2 samples)",
        "flow (1 samples)",
        "amodal masks (2 samp",
    ):
        assert heading in table
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert all(name in printed for name in FILES)
    is_random = PerceptionPipeline.embedded("cpu").metadata.is_random
    assert ("mean nothing" in table) == is_random
    assert has_banner(cv2.imread(str(out / "contact_sheet.png"))) == is_random


def test_step_by_step_it_is_the_same(
    tmp_path: Path, pipe: PerceptionPipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe.save_pretrained(tmp_path / "checkpoint")
    checkpoint = ["--checkpoint", str(tmp_path / "checkpoint"), "--device", "cpu"]
    assert main(["demo", "--out", str(tmp_path / "demo"), "--scenes", "2", "--frames", "3", *checkpoint]) == 0
    scenes, replayed = str(tmp_path / "scenes"), str(tmp_path / "replayed")
    size = ["--width", "192", "--height", "144"]
    assert main(["scene", scenes, "--scenes", "2", "--frames", "3", *size]) == 0
    options = ["--visible-masks-topic", "/camera/visible_masks", "--max-frame-gap", "1", "--include-input"]
    assert main(["replay", scenes, replayed, *options, *checkpoint]) == 0
    capsys.readouterr()
    assert main(["evaluate", "--dataset", "bag", "--path", scenes, "--predictions", replayed, "--json"]) == 0
    by_hand = json.loads(capsys.readouterr().out)
    demo = json.loads((tmp_path / "demo" / "report.json").read_text())
    demo_settings, settings = demo.pop("settings"), by_hand.pop("settings")
    assert demo == by_hand
    assert demo.keys() == {"depth", "flow", "amodal", "temporal", "baselines"}
    assert {"is_random": True, "seeds": [EVALUATION_SEED, EVALUATION_SEED + 1]}.items() <= demo_settings.items()
    assert settings["checkpoint"] == demo_settings["checkpoint"] == "random"
    assert settings["samples"] == 6
    for name in ("scenes", "predictions"):
        bags = (tmp_path / "demo" / name, Path(scenes if name == "scenes" else replayed))
        first, second = (next(bag.glob("*.mcap")).read_bytes() for bag in bags)
        assert first == second


def test_the_bags_hold_what_goes_in_and_what_comes_out(brightness: tuple[Path, DemoResult]) -> None:
    out, result = brightness
    # No flow from one scene to the next.
    assert (result.summary.frames_processed, result.summary.pairs) == (4, 2)
    assert result.summary.masks > 0
    topics = read_bag(out / "predictions")
    assert topics.keys() >= {"/camera/image_raw", "/camera/visible_masks"}
    assert topics.keys() >= {f"/perception/{name}" for name in ("depth/relative", "flow", "amodal/masks")}


def test_contact_sheet_shows_the_bags(brightness: tuple[Path, DemoResult]) -> None:
    """Each row's depth is that row's brightness."""
    sheet = cv2.imread(str(brightness[0] / "contact_sheet.png"))
    assert sheet is not None
    for scene in range(2):
        image = render([draw_scene(EVALUATION_SEED + scene)], [0], 144, 192).image[0, 0].numpy()
        depth = depth_color((image.mean(axis=2) / 255).astype(np.float32))
        for picture in (np.ascontiguousarray(image[..., ::-1]), depth):
            tile = cv2.resize(picture, (216, 162), interpolation=cv2.INTER_CUBIC)
            assert cv2.minMaxLoc(cv2.matchTemplate(sheet, tile, cv2.TM_SQDIFF))[0] < 1e4


def test_unusable_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option, value in (("--scenes", "0"), ("--frames", "1")):
        assert main(["demo", "--out", str(tmp_path), option, value]) == 2
        assert f"{option} is {value}" in capsys.readouterr().err
    assert main(["demo", "--out", str(tmp_path), "--checkpoint", str(tmp_path / "none")]) == 2
    for name in ("scenes", "predictions"):
        (tmp_path / name / name).mkdir(parents=True)
        (tmp_path / name / name / "diary.txt").touch()
        with pytest.raises(InputError, match="no bag"):
            run_demo(tmp_path / name, as_pipeline(BrightnessPipeline()), DemoSettings(1, 2))
        assert [path.name for path in (tmp_path / name).iterdir()] == [name]
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        run_demo(tmp_path / "file", as_pipeline(BrightnessPipeline()), DemoSettings(1, 2))
