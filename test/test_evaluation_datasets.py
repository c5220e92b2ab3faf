from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import shared
from numpy.typing import NDArray
from official_layouts import HEIGHT, WIDTH, chairs, hypersim, picture, pix2gestalt, write
from replay_bags import SECOND, START, Recorded, image, write_bag

from diffusion_perception_ros import cli
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.evaluation.datasets import (
    Bag,
    BagTopics,
    Dataset,
    FlyingChairs,
    Hypersim,
    Pix2Gestalt,
    Scenes,
)
from diffusion_perception_ros.evaluation.datasets.dataset import evenly
from diffusion_perception_ros.evaluation.samples import DepthTruth, FlowTruth, InstanceTruth, Sample
from diffusion_perception_ros.scenes import EVALUATION_SEED, draw_scene, render, render_pairs


def test_hypersim(tmp_path: Path) -> None:
    dataset = Hypersim(hypersim(tmp_path))
    samples = list(dataset)
    assert len(samples) == len(dataset) == 3
    sample = samples[1]
    assert sample.tasks == ("depth",)
    assert np.array_equal(sample.image, picture(1))
    assert sample.depth is not None
    assert sample.depth.depth[5, 5] == pytest.approx(2.001)
    assert sample.depth.valid.sum() == HEIGHT * WIDTH - 2
    assert not sample.depth.valid[0, :2].any()


def test_chairs(tmp_path: Path) -> None:
    dataset = FlyingChairs(chairs(tmp_path))
    first, last = dataset
    assert len(dataset) == 2
    assert first.name.endswith("00000_flow.flo")
    assert last.tasks == ("flow",)
    assert last.next_image is not None
    assert np.array_equal(last.image, picture(21))
    assert np.array_equal(last.next_image, picture(22))
    assert last.flow is not None
    assert (last.flow.flow[1:] == 2).all()
    assert np.argwhere(~last.flow.valid).tolist() == [[0, 0]]


def test_hypersim_with_normals(tmp_path: Path) -> None:
    """Up is y in the dataset's camera frame, and against y in the optical one; a vector without length is no normal."""
    sample = Hypersim(hypersim(tmp_path, normals=True))[1]
    assert sample.tasks == ("depth", "normals")
    assert sample.normals is not None
    assert sample.normals.normals.dtype == np.float32
    assert sample.normals.normals[5, 5].tolist() == [0, -1, 0]
    assert np.argwhere(~sample.normals.valid).tolist() == [[0, 0]]
    assert Hypersim(tmp_path, normals=False)[1].normals is None


def test_normals_of_hypersim_may_be_missing_unless_they_are_needed(tmp_path: Path) -> None:
    (hypersim(tmp_path, normals=True) / "val" / "ai_1" / "normal_cam_cam_00.npy").unlink()
    assert [sample.normals is None for sample in Hypersim(tmp_path)] == [False, True, False]
    with pytest.raises(InputError, match=r"ai_1/normal_cam_cam_00\.npy is missing"):
        Hypersim(tmp_path, normals=True)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", None])
def test_damaged_normals_are_named(tmp_path: Path, content: bytes | None) -> None:
    path = hypersim(tmp_path, normals=True) / "val" / "ai_0" / "normal_cam_cam_00.npy"
    if content is None:
        np.save(path, np.zeros((HEIGHT, WIDTH)))
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"normal_cam_cam_00\.npy holds no \(height, width, 3\) array"):
        Hypersim(tmp_path)[0]


def test_chairs_for_training(tmp_path: Path) -> None:
    (sample,) = FlyingChairs(chairs(tmp_path), split="training")
    assert sample.name.endswith("00001_flow.flo")
    assert sample.flow is not None
    assert (sample.flow.flow[1:] == 1).all()
    with pytest.raises(InputError, match=r"has no pair for training \(1\)"):
        FlyingChairs(chairs(tmp_path, "2 2 2"), split="training")


def test_pix2gestalt_with_the_whole_object(tmp_path: Path) -> None:
    dataset = Pix2Gestalt(pix2gestalt(tmp_path), appearance=True)
    (instance,) = dataset[1].instances
    assert instance.appearance is not None
    assert instance.appearance[3, 7].tolist() == [0, 200, 0]
    assert (instance.appearance[~instance.amodal] == 255).all()
    (tmp_path / "whole" / "12_whole.png").unlink()
    assert len(Pix2Gestalt(tmp_path)) == 2
    with pytest.raises(InputError, match=r"12_whole\.png is missing"):
        Pix2Gestalt(tmp_path, appearance=True)


def test_pix2gestalt(tmp_path: Path) -> None:
    dataset = Pix2Gestalt(pix2gestalt(tmp_path))
    sample = next(iter(dataset))
    assert len(dataset) == 2
    assert sample.tasks == ("amodal",)
    (instance,) = sample.instances
    assert (instance.visible.sum(), instance.amodal.sum()) == (24, 36)
    assert np.array_equal(sample.labels, instance.visible)


@pytest.mark.parametrize(
    ("reader", "folder", "tasks", "count", "shape"),
    [
        (Hypersim, "Hypersim_small", ("depth",), 3, (768, 1024, 3)),
        (FlyingChairs, "FlyingChairs_small", ("flow",), 5, (384, 512, 3)),
        (Pix2Gestalt, "Pix2Gestalt_small", ("amodal",), 10, (256, 256, 3)),
    ],
)
def test_real_samples(
    reader: Callable[[Path], Dataset], folder: str, tasks: tuple[str, ...], count: int, shape: tuple[int, ...]
) -> None:
    dataset = reader(shared("toy_data", folder))
    samples = list(dataset)
    assert len(samples) == len(dataset) == count
    assert {sample.tasks for sample in samples} == {tasks}
    assert {sample.image.shape for sample in samples} == {shape}
    for sample in samples:
        if sample.depth is not None:
            assert 0.3 < np.median(sample.depth.depth[sample.depth.valid]) < 20
        for instance in sample.instances:
            assert (instance.visible & ~instance.amodal).sum() == 0
            assert instance.visible.sum() < instance.amodal.sum()


@pytest.mark.parametrize(
    ("make", "reader", "remove", "complaint"),
    [
        (hypersim, Hypersim, "filenames.txt", "filenames.txt is missing"),
        (hypersim, Hypersim, "val/ai_1/depth.png", "depth.png is missing"),
        (chairs, FlyingChairs, "FlyingChairs_train_val.txt", "FlyingChairs_train_val.txt is missing"),
        (chairs, FlyingChairs, "data/00002_img2.ppm", "00002_img2.ppm is missing"),
        (chairs, FlyingChairs, "data/00002_flow.flo", "3 lines for 2 flow files"),
        (pix2gestalt, Pix2Gestalt, "whole_mask/5_whole_mask.png", "5_whole_mask.png is missing"),
    ],
)
def test_missing_files_are_named_at_once(
    make: Callable[[Path], Path], reader: Callable[[Path], Dataset], remove: str, complaint: str, tmp_path: Path
) -> None:
    (make(tmp_path) / remove).unlink()
    with pytest.raises(InputError, match=complaint):
        reader(tmp_path)


@pytest.mark.parametrize("reader", [Hypersim, FlyingChairs, Pix2Gestalt])
def test_a_missing_folder_is_named(reader: Callable[[Path], Dataset], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.* does not exist"):
        reader(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("file", "pixels", "complaint"),
    [
        ("val/ai_1/depth.png", np.ones((HEIGHT, WIDTH + 1), np.uint16), "the depth is 17x12, but the image is 16x12"),
        ("val/ai_1/depth.png", np.ones((HEIGHT, WIDTH, 3), np.uint16), "depth.png is no grey picture"),
    ],
)
def test_unusable_pictures_are_named(file: str, pixels: NDArray[Any], complaint: str, tmp_path: Path) -> None:
    write(hypersim(tmp_path) / file, pixels)
    with pytest.raises(InputError, match=complaint):
        list(Hypersim(tmp_path))


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    for content in (b"", b"\x89PNG\r\n\x1a\n and nothing more"):
        (hypersim(tmp_path) / "val" / "ai_1" / "depth.png").write_bytes(content)
        with pytest.raises(InputError, match=r"depth\.png is no grey picture"):
            list(Hypersim(tmp_path))


@pytest.mark.parametrize(("split", "complaint"), [("1 1 1", "no pair for validation"), ("1 2 3", "does not fit")])
def test_an_unusable_split(split: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=complaint):
        FlyingChairs(chairs(tmp_path, split))


def test_lists_of_another_kind(tmp_path: Path) -> None:
    listing = hypersim(tmp_path) / "filenames.txt"
    listing.write_text("ai_0/rgb.png\n")
    with pytest.raises(InputError, match="line 1, names one file"):
        Hypersim(tmp_path)
    listing.write_text("\n")
    with pytest.raises(InputError, match="lists no images"):
        Hypersim(tmp_path)


def test_fewer_samples_are_spread_evenly(tmp_path: Path) -> None:
    assert evenly(range(10), 3) == [0, 3, 6]
    assert evenly(range(3), 10) == evenly(range(3), None) == [0, 1, 2]
    assert [sample.name.split("ai_")[1][0] for sample in Hypersim(hypersim(tmp_path), 2)] == ["0", "1"]


def test_samples_refuse_truth_of_another_size() -> None:
    small = np.ones((HEIGHT, WIDTH - 1), bool)
    truths: list[dict[str, Any]] = [
        {"next_image": picture(width=WIDTH - 1)},
        {"depth": DepthTruth(small.astype(np.float32), small)},
        {"flow": FlowTruth(np.zeros((*small.shape, 2), np.float32), small), "next_image": picture()},
        {"instances": [InstanceTruth(np.ones((HEIGHT, WIDTH), bool), small)]},
    ]
    for truth in truths:
        with pytest.raises(InputError, match=r"x: the .* is 15x12, but the image is 16x12; they need one size"):
            Sample("x", picture(), **truth)


def test_scenes_are_the_pairs_of_their_seeds() -> None:
    dataset = Scenes(3, height=32, width=48, sequences=1)
    samples = list(dataset)
    assert len(samples) == len(dataset) == 3
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + 3)
    pairs = render_pairs(seeds, 32, 48)
    for i, (seed, sample) in enumerate(zip(seeds, samples, strict=True)):
        assert sample.name == f"scene {seed}"
        assert np.array_equal(sample.image, pairs.image[i])
        assert sample.next_image is not None
        assert np.array_equal(sample.next_image, pairs.next_image[i])
        assert sample.flow is not None
        assert np.array_equal(sample.flow.valid, pairs.flow_valid[i])
        assert sample.depth is not None
        assert np.array_equal(sample.depth.valid, pairs.depth[i] < 80)
        assert sample.normals is not None
        assert np.array_equal(sample.normals.normals, pairs.normals[i])
        assert np.array_equal(sample.normals.valid, pairs.depth[i] < np.inf)
    (run,) = dataset.sequences()
    assert len(run) == 8
    assert np.array_equal(run[0].image, samples[0].image)
    assert all(frame.tasks == ("depth", "flow") for frame in run[:-1])
    assert run[-1].tasks == ("depth",)


def test_a_bag_of_a_scene_is_the_scene(tmp_path: Path) -> None:
    arguments = ["--frames", "3", "--width", "64", "--height", "48", "--seed", str(EVALUATION_SEED)]
    assert cli.main(["scene", str(tmp_path / "scene.mcap"), *arguments]) == 0
    dataset = Bag(tmp_path / "scene.mcap", BagTopics(), sequences=4)
    samples = list(dataset)
    assert len(samples) == len(dataset) == 3
    frames = render([draw_scene(EVALUATION_SEED)], range(3), 48, 64)
    for time, sample in enumerate(samples):
        assert np.array_equal(sample.image, frames.image[0, time])
        assert sample.depth is not None
        assert np.array_equal(sample.depth.depth, frames.depth[0, time])
        assert len(sample.instances) > 0
        for instance in sample.instances:
            (number,) = np.unique(np.asarray(frames.labels[0, time])[instance.visible])
            assert np.array_equal(instance.visible, frames.labels[0, time] == number)
            assert np.array_equal(instance.amodal, frames.amodal[0, time, number - 1])
        if time < 2:
            assert sample.flow is not None
            valid = np.asarray(frames.flow_valid[0, time])
            assert np.array_equal(sample.flow.valid, valid)
            assert np.array_equal(sample.flow.flow[valid], np.asarray(frames.flow[0, time])[valid])
    assert samples[-1].flow is None
    assert [len(run) for run in dataset.sequences()] == [3]
    assert len(list(Bag(tmp_path / "scene.mcap", BagTopics(), samples=2))) == 2


def test_a_bag_of_a_depth_camera() -> None:
    dataset = Bag(shared("bags", "hypersim_depth_mcap"), BagTopics())
    truth = list(Hypersim(shared("toy_data", "Hypersim_small")))
    samples = list(dataset)
    assert len(samples) == len(truth) == 3
    for got, want in zip(samples, truth, strict=True):
        assert got.tasks == ("depth",)
        assert got.depth is not None
        assert want.depth is not None
        assert np.array_equal(got.depth.depth, want.depth.depth)


def depth_camera(depth_stamps: list[int], encoding: str = "16UC1", big_endian: bool = False) -> list[Recorded]:
    """Two frames, and depth of 1.5 m at the given stamps."""
    value, kind = (1500, "u2") if encoding == "16UC1" else (1.5, "f4")
    depth = np.full((HEIGHT, WIDTH), value, (">" if big_endian else "<") + kind)
    frames = [Recorded("/camera/image", image(START + i * SECOND, picture(i)), START + i * SECOND) for i in range(2)]
    depths = [image(stamp, depth, encoding, is_bigendian=int(big_endian)) for stamp in depth_stamps]
    return frames + [
        Recorded("/camera/depth", message, stamp) for message, stamp in zip(depths, depth_stamps, strict=True)
    ]


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
@pytest.mark.parametrize("big_endian", [False, True])
def test_depth_in_all_its_forms(encoding: str, big_endian: bool, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", depth_camera([START + SECOND], encoding, big_endian))
    (sample,) = Bag(bag, BagTopics())
    assert np.array_equal(sample.image, picture(1))
    assert sample.depth is not None
    assert sample.depth.depth.dtype == np.float32
    assert (sample.depth.depth == 1.5).all()


def test_a_damaged_ground_truth_is_named(tmp_path: Path) -> None:
    *frames, depth = depth_camera([START])
    depth.message.step = 1
    bag = write_bag(tmp_path / "bag", [*frames, depth])
    with pytest.raises(
        InputError, match=r"frame 1700000000\.000 s: a ground truth message is unusable: step is 1 bytes"
    ):
        list(Bag(bag, BagTopics()))


def test_a_bag_without_matching_stamps(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", depth_camera([START + 5]))
    with pytest.raises(InputError, match="none of the 2 frames on /camera/image has the stamp"):
        Bag(bag, BagTopics())


@pytest.mark.parametrize(
    ("topics", "complaint"),
    [
        (BagTopics(depth="/nowhere"), "--depth-topic /nowhere is no such topic of the bag, which has /a/depth"),
        (BagTopics(depth="/camera/image"), "--depth-topic /camera/image is no such topic"),
        (BagTopics(), "several topics for --depth-topic: /a/depth, /camera/depth; name one"),
    ],
)
def test_topics_that_are_not_evident(topics: BagTopics, complaint: str, tmp_path: Path) -> None:
    messages = depth_camera([START])
    bag = write_bag(tmp_path / "bag", [*messages, messages[-1]._replace(topic="/a/depth")])
    with pytest.raises(InputError, match=complaint):
        Bag(bag, topics)
    assert len(Bag(bag, BagTopics(depth="a/depth"))) == 1
