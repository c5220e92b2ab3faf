from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from diffusion_perception_ros.cli import main
from diffusion_perception_ros.conversions import depth_color, normal_color
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.media import PredictJob, PredictSettings, PredictSummary
from diffusion_perception_ros.media.flo import read_flow
from diffusion_perception_ros.media.results import write_results
from diffusion_perception_ros.model.metadata import TargetEncoding
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.predictions import AmodalInstance, PerceptionOutput

Picture = NDArray[np.uint8]
Frames = tuple[Picture, Picture, Picture]


@pytest.fixture(autouse=True)
def _quiet_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process of its own: FFmpeg looks once, and these tests write videos before the program reads any."""
    monkeypatch.setenv("OPENCV_FFMPEG_LOGLEVEL", "-8")


def save(path: Path, pixels: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    return path


def load(path: Path) -> Picture:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None, path
    return np.asarray(pixels[..., ::-1] if pixels.ndim == 3 else pixels, np.uint8)


def predict(
    inputs: list[Path], out: Path, pipe: PerceptionPipeline, settings: PredictSettings | None = None
) -> PredictSummary:
    return PredictJob(inputs, out, settings or PredictSettings()).run(pipe)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_one_picture_with_everything(tmp_path: Path, pipe: PerceptionPipeline, frames: Frames) -> None:
    image, following, masks = frames
    settings = PredictSettings(
        next_image=save(tmp_path / "in/second.png", following),
        masks=save(tmp_path / "in/masks.png", masks.astype(np.uint16)),
        ensemble_size=3,
        seed=5,
    )
    out = tmp_path / "deep" / "out"
    summary = predict([save(tmp_path / "in/first.png", image)], out, pipe, settings)
    expected = pipe(image, following, masks, ensemble_size=3, seed=5)
    assert expected.flow is not None
    assert expected.amodal is not None
    np.testing.assert_array_equal(np.load(out / "first_depth.npy"), expected.depth_relative)
    np.testing.assert_array_equal(np.load(out / "first_depth_uncertainty.npy"), expected.depth_uncertainty)
    np.testing.assert_array_equal(np.load(out / "first_flow_standard_deviation.npy"), expected.flow_standard_deviation)
    np.testing.assert_array_equal(read_flow(out / "first_flow.flo"), expected.flow)
    for instance in expected.amodal:
        mask = load(out / f"first_amodal_{instance.id}.png")
        np.testing.assert_array_equal(mask, np.where(instance.mask, 255, 0))
        assert instance.appearance is not None
        np.testing.assert_array_equal(load(out / f"first_appearance_{instance.id}.png"), instance.appearance)
    assert names(out) == {
        f"first_{kind}"
        for kind in (
            "depth.npy", "depth.png", "depth_uncertainty.npy", "flow.flo", "flow.png", "flow_standard_deviation.npy",
            "amodal_2.png", "amodal_7.png", "appearance_2.png", "appearance_7.png", "overlay.png",
        )
    }  # fmt: skip
    for kind in ("depth", "flow", "overlay"):
        assert load(out / f"first_{kind}.png").shape == image.shape
    assert (summary.frames_total, summary.frames_processed, summary.pairs, summary.masks) == (1, 1, 1, 2)
    assert summary.files == 11
    assert summary.exit_status == 0


def test_normals_are_written_by_checkpoints_that_see_them(tmp_path: Path, frames: Frames) -> None:
    small = PerceptionPipeline.random(64, num_labels=1006, patch_labels=(1000, 1001, 1002, 1003, 1005))
    encodings = {"depth": small.metadata.tasks["depth"], "normals": TargetEncoding("unit_vector", (1005,))}
    metadata = replace(small.metadata, tasks=encodings)
    pipe = PerceptionPipeline(small.transformer, small.codec, small.scheduler_config, metadata)
    out = tmp_path / "out"
    summary = predict([save(tmp_path / "in/first.png", frames[0])], out, pipe)
    assert summary.tasks == ("depth", "normals")
    assert names(out) == {"first_depth.npy", "first_depth.png", "first_normals.npy", "first_normals.png"}
    expected = pipe(frames[0]).extra["normals"]
    np.testing.assert_array_equal(np.load(out / "first_normals.npy"), expected)
    np.testing.assert_array_equal(load(out / "first_normals.png")[..., ::-1], normal_color(expected))
    with pytest.raises(InputError, match="exists already"):
        predict([tmp_path / "in/first.png"], out, pipe)


def test_logarithmic_depth_is_drawn_around_its_median(tmp_path: Path, frames: Frames) -> None:
    small = PerceptionPipeline.random(64)
    encodings = {"depth": TargetEncoding("log", (1000,), parameters={"log_range": 3.0})}
    pipe = PerceptionPipeline(
        small.transformer, small.codec, small.scheduler_config, replace(small.metadata, tasks=encodings)
    )
    output = pipe(frames[0])
    assert output.depth_relative is not None
    assert output.depth_median == pytest.approx(np.exp(-3))
    out = tmp_path / "out"
    predict([save(tmp_path / "in/first.png", frames[0])], out, pipe)
    np.testing.assert_array_equal(np.load(out / "first_depth.npy"), output.depth_relative)
    expected = depth_color(output.depth_relative, output.depth_median)
    np.testing.assert_array_equal(load(out / "first_depth.png")[..., ::-1], expected)


def test_folder_in_natural_order(tmp_path: Path, pipe: PerceptionPipeline, frames: Frames) -> None:
    image, following, _ = frames
    save(tmp_path / "walk/f2.png", image)
    save(tmp_path / "walk/f10.png", following)
    (tmp_path / "walk/notes.txt").write_text("not a picture, and not meant to be one")
    out = tmp_path / "out"
    summary = predict([tmp_path / "walk"], out, pipe)
    assert names(out) == {
        f"walk/{name}"
        for name in ("f2_depth.npy", "f2_depth.png", "f2_flow.flo", "f2_flow.png", "f10_depth.npy", "f10_depth.png")
    }
    expected = pipe(image, following)
    np.testing.assert_array_equal(read_flow(out / "walk/f2_flow.flo"), expected.flow)
    assert (summary.frames_processed, summary.pairs, summary.skipped) == (2, 1, {})


def test_bad_pictures_in_a_folder_are_skipped_and_counted(
    tmp_path: Path, pipe: PerceptionPipeline, frames: Frames
) -> None:
    image, following, masks = frames
    save(tmp_path / "walk/1.png", image)
    (tmp_path / "walk/2.png").write_bytes((tmp_path / "walk/1.png").read_bytes()[:500])
    save(tmp_path / "walk/3.png", following)
    save(tmp_path / "walk/4.png", following[:40])
    save(tmp_path / "labels/1.png", masks)
    save(tmp_path / "labels/3.png", masks[:50])
    save(tmp_path / "labels/4.png", np.zeros_like(masks[:40]))
    save(tmp_path / "labels/9.png", masks)
    out = tmp_path / "out"
    summary = predict([tmp_path / "walk"], out, pipe, PredictSettings(masks=tmp_path / "labels"))
    assert summary.skipped == {"undecodable": 1, "masks_size_mismatch": 1}
    assert summary.omitted == {"resolution_changed": 1, "masks_without_frame": 1}
    assert (summary.frames_total, summary.frames_processed, summary.pairs, summary.masks) == (4, 3, 1, 2)
    assert summary.exit_status == 3
    # Frame 1's next frame is 3, the next one that can be used.
    expected = pipe(image, following)
    assert expected.flow is not None
    np.testing.assert_allclose(read_flow(out / "walk/1_flow.flo"), expected.flow, atol=1e-3)
    # An empty label image says that there are no objects, which is a result.
    np.testing.assert_array_equal(load(out / "walk/4_overlay.png"), following[:40])
    assert not (out / "walk/3_overlay.png").exists()


def test_video(tmp_path: Path, pipe: PerceptionPipeline, frames: Frames) -> None:
    image, following, masks = frames
    path = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (80, 60))
    for frame in [image, following] * 5:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    save(tmp_path / "labels/000001.png", masks)
    out = tmp_path / "out"
    summary = predict([path], out, pipe, PredictSettings(masks=tmp_path / "labels"))
    assert (summary.frames_processed, summary.pairs, summary.masks, summary.exit_status) == (10, 9, 2, 0)
    capture = cv2.VideoCapture(str(path))
    decoded = [np.asarray(capture.read()[1], np.uint8)[..., ::-1].copy() for _ in range(2)]
    expected = pipe(decoded[0], decoded[1])
    np.testing.assert_array_equal(np.load(out / "drive/000000_depth.npy"), expected.depth_relative)
    np.testing.assert_array_equal(read_flow(out / "drive/000000_flow.flo"), expected.flow)
    assert (out / "drive/000001_amodal_7.png").exists()

    cut = tmp_path / "cut.avi"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    summary = predict([cut], out, pipe, PredictSettings(tasks=("depth",)))
    assert 0 < summary.frames_processed < 9
    assert "of about 10 frames" in (summary.input_cut or "")
    assert summary.exit_status == 3


def test_equal_names_do_not_collide(tmp_path: Path, pipe: PerceptionPipeline, frames: Frames) -> None:
    image, following, _ = frames
    inputs = [save(tmp_path / "a/x.png", image), save(tmp_path / "b/x.png", following), tmp_path / "c/x"]
    save(tmp_path / "c/x/1.png", image)
    save(tmp_path / "c/x/1.bmp", following)
    out = tmp_path / "out"
    summary = predict(inputs, out, pipe, PredictSettings(tasks=("depth",)))
    kinds = ("depth.npy", "depth.png")
    assert names(out) == {f"{name}_{kind}" for name in ("x", "x_2", "x_3/1", "x_3/1_2") for kind in kinds}
    assert summary.files == 8
    np.testing.assert_array_equal(np.load(out / "x_2_depth.npy"), pipe(following, tasks=("depth",)).depth_relative)


def test_overwrite_replaces_all_earlier_results_and_nothing_else(
    tmp_path: Path, pipe: PerceptionPipeline, frames: Frames
) -> None:
    image, _, masks = frames
    picture = save(tmp_path / "x.png", image)
    labels = save(tmp_path / "labels.png", masks)
    out = tmp_path / "out"
    predict([picture], out, pipe, PredictSettings(masks=labels))
    before = names(out)
    save(out / "mine_depth.png", image)
    with pytest.raises(InputError, match="exists already"):
        PredictJob([picture], out, PredictSettings())
    # What the pipeline refuses costs nothing.
    with pytest.raises(InputError, match="sampler"):
        predict([picture], out, pipe, PredictSettings(sampler="magic", overwrite=True))
    assert names(out) == before | {"mine_depth.png"}
    predict([picture], out, pipe, PredictSettings(overwrite=True))
    assert names(out) == {"x_depth.npy", "x_depth.png", "mine_depth.png"}


def test_inputs_are_never_overwritten(tmp_path: Path, frames: Frames) -> None:
    picture, like_a_result = save(tmp_path / "x.png", frames[0]), save(tmp_path / "x_depth.png", frames[0])
    settings = PredictSettings(overwrite=True)
    with pytest.raises(InputError, match=r"x_depth\.png is an input"):
        PredictJob([picture, like_a_result], tmp_path, settings)
    with pytest.raises(InputError, match="among the inputs"):
        PredictJob([tmp_path], tmp_path.parent, settings)


def test_appearance_is_left_out_where_there_is_none(tmp_path: Path, frames: Frames) -> None:
    image, _, masks = frames
    instance = AmodalInstance(7, masks == 7, masks == 7)
    assert write_results(tmp_path, "x", image, PerceptionOutput(amodal=[instance]), 8.0) == 2
    assert names(tmp_path) == {"x_amodal_7.png", "x_overlay.png"}


@pytest.fixture
def folder(tmp_path: Path, frames: Frames) -> Path:
    """A folder with pictures, label images, and things that are neither."""
    image, following, masks = frames
    save(tmp_path / "a.png", image)
    save(tmp_path / "b.png", following)
    save(tmp_path / "small.png", image[:30])
    save(tmp_path / "labels.png", masks)
    save(tmp_path / "labels/a.png", masks)
    (tmp_path / "none").mkdir()
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag/x.mcap").touch()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "text.txt").write_text("no picture")
    cut = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(cut[:500])
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("gone.png", "gone.png: there is no such file"),
        ("text.png", "text.png is not a picture"),
        ("cut.png", "cut.png is not a picture, or is damaged"),
        ("text.mp4", "text.mp4 is not a video"),
        ("text.txt", "text.txt has an unknown extension"),
        ("none", "none has no pictures in it"),
        ("bag", "replay"),
        ("bag/x.mcap", "replay"),
        ("a.png --next gone.png", "gone.png: there is no such file"),
        ("a.png --next small.png", "80x60 and 80x30"),
        ("a.png b.png --next b.png", "--next belongs to one picture"),
        ("a.png --masks a.png", "a.png is no label image"),
        ("small.png --masks labels.png", "labels.png is 80x60, but its picture 80x30"),
        ("a.png b.png --masks labels.png", "belongs to one picture"),
        ("labels a.png --masks labels", "run once for each input"),
        ("b.png --masks labels", "is named like a frame"),
        ("b.png --next a.png --masks labels", "is named like a frame"),
        ("a.png --masks none", "has no PNG file in it"),
        ("a.png --tasks amodal", "--masks"),
        ("a.png --tasks flow", "needs two frames"),
        ("a.png --tasks ,", "--tasks is empty"),
        ("a.png --tasks smell", "'smell' is unknown"),
        ("a.png --ensemble 0", "--ensemble must be at least 1"),
        ("a.png --checkpoint gone", "gone: "),
        ("a.png --out text.txt", "text.txt is a file"),
        ("a.png --out text.txt/x", "text.txt/x cannot be written"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: str, sentence: str
) -> None:
    monkeypatch.chdir(folder)
    before = names(folder)
    assert main(["predict", "--out", "out", *arguments.split()]) == 2
    stdout, stderr = capfd.readouterr()
    assert stdout == ""
    assert stderr.startswith("diffusion-perception: error: ")
    assert sentence in stderr
    assert stderr.count("\n") == 1
    assert names(folder) == before


def test_command_line(folder: Path) -> None:
    """As a program of its own, with the embedded checkpoint."""
    command = [sys.executable, "-m", "diffusion_perception_ros", "predict", "a.png", "cut.png", "--out", "out"]
    done = subprocess.run([*command, "--json"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert done.stderr == ""
    summary = json.loads(done.stdout)
    assert summary["exit_status"] == 3
    assert summary["skipped"] == {"undecodable": 1}
    assert (summary["frames_total"], summary["frames_processed"], summary["files"]) == (2, 1, 2)
    assert names(folder / "out") == {"a_depth.npy", "a_depth.png"}


def test_summary_text(folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert main(["predict", "a.png", "--out", "out", "--masks", "labels"]) == 0
    stdout, stderr = capfd.readouterr()
    assert stdout == ""
    rows = dict(line.split(maxsplit=1) for line in stderr.splitlines() if not line.startswith(("flow", "amodal")))
    assert rows["frames"] == "1 of 1"
    assert rows["skipped"] == "none"
    assert rows["output"].startswith("out, ")
    pipe = PerceptionPipeline.embedded("cpu")
    assert ("random" in stderr) == pipe.metadata.is_random
