from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replay_bags import (
    IMAGE_TOPIC,
    MASKS_TOPIC,
    START,
    Recorded,
    camera,
    camera_info,
    header,
    image,
    picture,
    ros,
    write_bag,
    write_mcap,
)

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.replay.reader import BagReader
from diffusion_perception_ros.replay.settings import ReplaySettings
from diffusion_perception_ros.replay.topics import SourceTopics, choose_topics

DEPTH = Recorded("/camera/depth/image_raw", image(START, np.zeros((6, 8), np.uint16), "16UC1"), START)
INFO = Recorded("/camera/camera_info", camera_info(START), START)
MASKS = Recorded(MASKS_TOPIC, image(START, np.zeros((6, 8), np.uint8), "mono8"), START)
OTHER = Recorded("/rear/image_raw", image(START, picture(1)), START)
COMPRESSED_DEPTH = Recorded(
    "/camera/depth/compressedDepth",
    ros(
        "sensor_msgs/msg/CompressedImage",
        header=header(START),
        format="16UC1; compressedDepth png",
        data=np.zeros(3, np.uint8),
    ),
    START,
)


def choose(tmp_path: Path, messages: list[Recorded], **options: Any) -> SourceTopics:
    with BagReader(write_bag(tmp_path / "bag", messages)) as bag:
        return choose_topics(bag, ReplaySettings(**options))


def test_the_only_image_topic_and_its_sibling(tmp_path: Path) -> None:
    topics = choose(tmp_path, [*camera(1), INFO, DEPTH, COMPRESSED_DEPTH])
    assert topics == SourceTopics(IMAGE_TOPIC, "/camera/camera_info", None, None)


@pytest.mark.parametrize("encoding", ["32FC1", "32FC2", "32FC3", "64FC1"])
def test_measurements_are_no_cameras(tmp_path: Path, encoding: str) -> None:
    pixels = np.zeros((6, 8), np.uint8)
    other = Recorded("/measured", image(START, pixels, "mono8"), START)
    other.message.encoding = encoding
    assert choose(tmp_path, [*camera(1), other]).image == IMAGE_TOPIC


def test_topics_named_by_other_options_are_no_candidates(tmp_path: Path) -> None:
    messages = [*camera(1), MASKS, OTHER]
    topics = choose(tmp_path, messages, visible_masks_topic=MASKS_TOPIC, pair_topic="/rear/image_raw")
    assert topics == SourceTopics(IMAGE_TOPIC, None, MASKS_TOPIC, "/rear/image_raw")


def test_a_depth_image_is_taken_where_nothing_else_is(tmp_path: Path) -> None:
    assert choose(tmp_path, [DEPTH]).image == DEPTH.topic


def test_the_sibling_of_a_compressed_topic(tmp_path: Path) -> None:
    message = ros("sensor_msgs/msg/CompressedImage", header=header(START), format="jpeg", data=np.zeros(3, np.uint8))
    topics = choose(tmp_path, [Recorded(f"{IMAGE_TOPIC}/compressed", message, START), INFO])
    assert topics.camera_info == "/camera/camera_info"


def test_several_image_topics_are_listed(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        choose(tmp_path, [*camera(2), OTHER, DEPTH])
    assert str(error.value) == (
        "the bag has several image topics: /camera/image_raw (sensor_msgs/msg/Image, rgb8, 2 messages); "
        "/rear/image_raw (sensor_msgs/msg/Image, rgb8, 1 message); choose one with --image-topic."
    )


@pytest.mark.parametrize(
    ("messages", "options", "words"),
    [
        ([INFO], {}, r"no image topic; it has /camera/camera_info \(sensor_msgs/msg/CameraInfo, 1 message\)"),
        (
            camera(1),
            {"image_topic": "/nowhere"},
            "--image-topic /nowhere is not in the bag, which has /camera/image_raw",
        ),
        ([*camera(1), INFO], {"image_topic": INFO.topic}, "--image-topic .* is of type sensor_msgs/msg/CameraInfo"),
        (camera(1), {"visible_masks_topic": "/m"}, "--visible-masks-topic /m is not in the bag"),
        (camera(1), {"camera_info_topic": IMAGE_TOPIC}, "--camera-info-topic .* has to be sensor_msgs/msg/CameraInfo"),
        (camera(1), {"image_topic": IMAGE_TOPIC, "pair_topic": IMAGE_TOPIC}, "another option"),
        (
            [MASKS],
            {"visible_masks_topic": MASKS_TOPIC},
            rf"no image topic besides {MASKS_TOPIC} \(named by --visible-masks-topic\); it has",
        ),
    ],
)
def test_unusable_topics(tmp_path: Path, messages: list[Recorded], options: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        choose(tmp_path, messages, **options)


@pytest.mark.parametrize(("recorded", "given"), [("image", "/image"), ("/image", "image"), ("image", "image")])
def test_a_leading_slash_makes_no_difference(tmp_path: Path, recorded: str, given: str) -> None:
    messages = [*camera(1), Recorded(recorded, image(START, picture(0)), START)]
    assert choose(tmp_path, messages, image_topic=given).image == recorded


def test_a_cut_bag_without_topics_is_said_to_be_cut(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "cut.mcap", camera(1), chunked=False)
    path.write_bytes(path.read_bytes()[:40])
    with BagReader(path) as bag, pytest.raises(InputError, match=r"no topics at all; cut\.mcap ends at byte 40"):
        choose_topics(bag, ReplaySettings())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"namespace": "/per ception"}, "--namespace"),
        ({"namespace": "1st"}, "--namespace"),
        ({"storage": "zip"}, "--storage"),
        ({"max_frame_gap": 0.0}, "--max-frame-gap"),
        ({"flow_color_range": float("nan")}, "--flow-color-range"),
        ({"tasks": ()}, "--tasks"),
        ({"image_topic": ""}, "--image-topic is empty"),
        ({"camera_info_topic": ""}, "--camera-info-topic is empty"),
        ({"visible_masks_topic": ""}, "--visible-masks-topic is empty"),
        ({"pair_topic": "/"}, "--pair-topic is empty"),
        ({"tasks": ("depth", "amodal")}, "--visible-masks-topic"),
    ],
)
def test_unusable_settings(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ReplaySettings(**options)


@pytest.mark.parametrize(
    ("given", "kept"), [("/perception", "/perception"), ("a/b/", "/a/b"), ("/", ""), ("", ""), ("_x1", "/_x1")]
)
def test_namespaces(given: str, kept: str) -> None:
    assert ReplaySettings(namespace=given).namespace == kept
