"""A recorded scene, read back, is the scene as it was rendered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diffusion_perception_ros import cli
from diffusion_perception_ros.conversions import image_from_message, labels_from_message
from diffusion_perception_ros.replay.bag import deserialize
from diffusion_perception_ros.replay.reader import BagReader
from diffusion_perception_ros.scenes import draw_scene, render

SEED = 900_000_003


def read(path: Path) -> dict[str, list[Any]]:
    with BagReader(path) as bag:
        messages: dict[str, list[Any]] = {topic: [] for topic in bag.topics}
        for raw in bag.messages(list(messages)):
            messages[raw.topic].append(deserialize(raw))
    return messages


def floats(message: Any, channels: int) -> NDArray[np.float32]:
    assert message.encoding == f"32FC{channels}"
    assert message.step == 4 * channels * message.width
    return np.asarray(message.data).view(np.float32).reshape(message.height, message.width, channels)


@pytest.mark.parametrize("name", ["scene.mcap", "scene"])
def test_the_bag_holds_the_scene(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / name
    arguments = ["scene", str(out), "--seed", str(SEED), "--frames", "3", "--width", "64", "--height", "48"]
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out == ""
    assert out.is_file() == (name == "scene.mcap")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    messages = read(out)
    scene = draw_scene(SEED)
    frames = render([scene], [0, 1, 2], 48, 64)
    for time in range(3):
        image = messages["/camera/image_raw"][time]
        assert np.array_equal(image_from_message(image), frames.image[0, time].numpy())
        assert image.header.stamp.sec * 10 + image.header.stamp.nanosec // 10**8 == 10 + time
        labels = messages["/camera/visible_masks"][time]
        assert np.array_equal(labels_from_message(labels), frames.labels[0, time].numpy())
        depth = floats(messages["/ground_truth/depth/image"][time], 1)[..., 0]
        assert np.array_equal(depth, frames.depth[0, time].numpy())
        normals = floats(messages["/ground_truth/normals"][time], 3)
        assert np.array_equal(normals, frames.normals[0, time].numpy())
        assert np.allclose(messages["/camera/camera_info"][time].k.reshape(3, 3), frames.intrinsics[0].numpy())
        for mask in messages["/ground_truth/amodal/masks"][time].masks:
            box, whole = mask.amodal_box, np.zeros((48, 64), bool)
            crop = np.asarray(mask.mask.data).reshape(box.height, box.width) > 0
            whole[box.y_offset : box.y_offset + box.height, box.x_offset : box.x_offset + box.width] = crop
            assert np.array_equal(whole, frames.amodal[0, time, mask.id - 1].numpy())
        camera = messages["/tf"][time].transforms[0]
        assert camera.child_frame_id == "camera_optical_frame"
        position = camera.transform.translation
        assert np.allclose([position.x, position.y, position.z], frames.camera_to_world[0, time, :3, 3].numpy())
        assert len(messages["/tf"][time].transforms) == 1 + len(scene.names)
    assert len(messages["/ground_truth/flow"]) == 2
    for time, message in enumerate(messages["/ground_truth/flow"]):
        flow, valid = floats(message.flow, 2), frames.flow_valid[0, time].numpy()
        assert np.array_equal(flow[valid], frames.flow[0, time].numpy()[valid])
        assert np.isnan(flow[~valid]).all()
        assert message.next_stamp == messages["/camera/image_raw"][time + 1].header.stamp


def test_several_scenes_follow_one_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--width", "32", "--height", "24", "--frames", "2"]
    assert cli.main(["scene", str(tmp_path / "both"), "--seed", str(SEED), "--scenes", "2", *size]) == 0
    assert f"4 frames of scenes {SEED} to {SEED + 1}" in capsys.readouterr().err
    both = read(tmp_path / "both")
    for number in range(2):
        alone = tmp_path / f"{number}"
        assert cli.main(["scene", str(alone), "--seed", str(SEED + number), *size]) == 0
        for topic, messages in read(alone).items():
            for first, second in zip(messages, both[topic][len(messages) * number :], strict=False):
                if hasattr(first, "encoding"):
                    assert np.array_equal(first.data, second.data)
    stamps = [image.header.stamp for image in both["/camera/image_raw"]]
    assert [stamp.sec + stamp.nanosec / 1e9 for stamp in stamps] == pytest.approx([1, 1.1, 4, 4.1])
    assert [flow.next_stamp for flow in both["/ground_truth/flow"]] == stamps[1::2]


def test_nothing_is_overwritten_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for out in (tmp_path / "scene.mcap", tmp_path / "bag"):
        arguments = ["scene", str(out), "--frames", "1", "--width", "32", "--height", "24"]
        assert cli.main(arguments) == 0
        before = [path.read_bytes() for path in (out.glob("*.mcap") if out.is_dir() else [out])]
        assert cli.main(arguments) == 2
        assert "exists already" in capsys.readouterr().err
        assert cli.main([*arguments, "--overwrite"]) == 0
        assert before == [path.read_bytes() for path in (out.glob("*.mcap") if out.is_dir() else [out])]


@pytest.mark.parametrize(
    "option",
    [["--frames", "0"], ["--scenes", "0"], ["--rate", "0"], ["--seed", "-1"], ["--width", "2"], ["--device", "abacus"]],
)
def test_unusable_options_are_refused(tmp_path: Path, option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["scene", str(tmp_path / "out.mcap"), *option]) == 2
    assert capsys.readouterr().err.startswith("diffusion-perception: error:")
    assert list(tmp_path.iterdir()) == []
