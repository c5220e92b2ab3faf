"""Real bags, written by ROS 2, through the real pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.reader import make_reader
from replay_bags import floats, read_bag

from diffusion_perception_ros.conversions import (
    image_from_compressed_message,
    image_from_message,
    labels_from_message,
)
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.replay import ReplaySettings, replay

BAGS = Path(__file__).resolve().parent.parent.parent / "shared" / "bags"

pytestmark = pytest.mark.skipif(not BAGS.is_dir(), reason=f"no bags in {BAGS}")

CASES: dict[str, tuple[str, str | None]] = {
    "live_recording_mcap": ("/camera/image_raw", None),
    "chairs_mcap": ("/camera/image_raw", None),
    "chairs_sqlite3": ("/camera/image_raw", None),
    "hypersim_depth_mcap": ("/camera/color/image_raw", None),
    "occlusion_masks_mcap": ("/cam0/image_raw/compressed", "/cam0/visible_masks"),
}


@pytest.fixture(scope="module")
def pipe() -> PerceptionPipeline:
    return PerceptionPipeline.embedded(device="cpu")


def pixels(message: Any) -> Any:
    read = image_from_compressed_message if hasattr(message, "format") else image_from_message
    return np.array(read(message))


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_every_bag(tmp_path: Path, pipe: PerceptionPipeline, name: str, storage: str) -> None:
    topic, masks_topic = CASES[name]
    settings = ReplaySettings(
        visible_masks_topic=masks_topic, sampler="ddim_trailing", num_inference_steps=1, seed=3, storage=storage
    )
    summary = replay(BAGS / name, tmp_path / "out", pipe, settings)
    assert summary.exit_status == 0
    source, result = read_bag(BAGS / name), read_bag(tmp_path / "out")
    frames = source[topic]
    keys = [read[:2] for read in frames]
    for depth_topic in ("depth/relative", "depth/color", "status"):
        assert [read[:2] for read in result[f"/perception/{depth_topic}"]] == keys
    for flow_topic in ("flow", "flow/image", "flow/color"):
        assert [read[:2] for read in result[f"/perception/{flow_topic}"]] == keys[:-1]
    if masks_topic is None:
        assert [read[:2] for read in result["/perception/depth/camera_info"]] == keys
    for reads in result.values():
        assert {read.message.header.frame_id for read in reads} == {frames[0].message.header.frame_id}
    for i in (0, len(frames) - 2):
        labels = labels_from_message(source[masks_topic][i].message) if masks_topic else None
        images = (pixels(frames[i].message), pixels(frames[i + 1].message))
        tasks = ("depth", "flow", "amodal") if masks_topic else ("depth", "flow")
        expected = pipe(
            *images, visible_masks=labels, tasks=tasks, sampler="ddim_trailing", num_inference_steps=1, seed=3
        )
        assert expected.depth_relative is not None
        assert expected.flow is not None
        depth = floats(result["/perception/depth/relative"][i].message)
        np.testing.assert_allclose(depth, expected.depth_relative, atol=1e-3)
        flow = floats(result["/perception/flow/image"][i].message)
        np.testing.assert_allclose(flow, expected.flow, atol=1e-3)
        if masks_topic:
            found = result["/perception/amodal/masks"][i].message.masks
            assert expected.amodal is not None
            assert [mask.amodal_area for mask in found] == [instance.mask.sum() for instance in expected.amodal]


def test_two_runs_write_the_same_bytes(tmp_path: Path, pipe: PerceptionPipeline) -> None:
    settings = ReplaySettings(num_inference_steps=1, seed=5)
    for name in ("one", "two"):
        replay(BAGS / "hypersim_depth_mcap", tmp_path / name, pipe, settings)
    one, two = (sorted((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    with one[1].open("rb") as stream:
        topics = {channel.topic for _, channel, _ in make_reader(stream).iter_messages()}
    assert "/perception/depth/relative" in topics


@pytest.mark.parametrize(
    ("name", "fraction", "frames"),
    [
        ("chairs_mcap", 0.3, 2),
        ("chairs_mcap", 0.6, 4),
        ("chairs_mcap", 0.95, 9),
        ("chairs_sqlite3", 0.6, 5),
        ("chairs_sqlite3", 0.95, 9),
        ("live_recording_mcap", 0.3, 6),
        ("live_recording_mcap", 0.95, 27),
    ],
)
def test_cut_bags(tmp_path: Path, pipe: PerceptionPipeline, name: str, fraction: float, frames: int) -> None:
    (path,) = [path for path in (BAGS / name).iterdir() if path.suffix in (".mcap", ".db3")]
    cut = tmp_path / f"cut{path.suffix}"
    cut.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    summary = replay(cut, tmp_path / "out", pipe, ReplaySettings(tasks=("depth",), num_inference_steps=1))
    whole = [read[:2] for read in read_bag(BAGS / name)["/camera/image_raw"]]
    result = [read[:2] for read in read_bag(tmp_path / "out")["/perception/depth/relative"]]
    assert result == whole[: len(result)]
    assert len(result) == frames
    assert summary.exit_status == 3
    assert summary.input_cut
