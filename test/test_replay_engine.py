from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from replay_bags import (
    IMAGE_TOPIC,
    MASKS_TOPIC,
    PERIOD,
    SECOND,
    START,
    BrightnessPipeline,
    Outcome,
    Recorded,
    as_pipeline,
    camera,
    camera_info,
    floats,
    header,
    image,
    labels,
    masks,
    picture,
    ros,
    write_bag,
)
from rosbags.rosbag2 import StoragePlugin

from diffusion_perception_ros.conversions import depth_color, flow_color
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.replay import ReplaySettings, replay
from diffusion_perception_ros.replay.reader import BagReader


def test_every_frame_and_every_pair(tmp_path: Path) -> None:
    messages = camera(4)
    outcome = Outcome(tmp_path, messages)
    stamps = [START + i * PERIOD for i in range(4)]
    for topic in ("depth/relative", "depth/color", "status"):
        assert outcome.stamps(topic) == stamps
    for topic in ("flow", "flow/image", "flow/color"):
        assert outcome.stamps(topic) == stamps[:-1]
    for reads in outcome.topics.values():
        assert [read.log_time for read in reads] == [read.stamp + 5 for read in reads]
        assert {read.message.header.frame_id for read in reads} == {"camera_optical"}
    assert outcome.summary.exit_status == 0
    assert (outcome.summary.frames_total, outcome.summary.frames_processed, outcome.summary.pairs) == (4, 4, 3)


def test_values_are_what_the_pipeline_returned(tmp_path: Path) -> None:
    outcome = Outcome(tmp_path, camera(3), ensemble_size=3, flow_color_range=20.0)
    for i in range(3):
        depth = (picture(i).mean(axis=2) / 255).astype(np.float32)
        np.testing.assert_array_equal(floats(outcome.read("depth/relative")[i].message), depth)
        np.testing.assert_array_equal(floats(outcome.read("depth/uncertainty")[i].message), depth / 2)
        color = outcome.read("depth/color")[i].message
        assert color.encoding == "bgr8"
        np.testing.assert_array_equal(color.data.reshape(6, 8, 3), depth_color(depth))
    for i in range(2):
        flow = np.full((6, 8, 2), np.float32(picture(i + 1).mean() - picture(i).mean()), np.float32)
        flow[0, 0] = np.nan
        np.testing.assert_array_equal(floats(outcome.read("flow/image")[i].message), flow)
        message = outcome.read("flow")[i].message
        np.testing.assert_array_equal(floats(message.flow), flow)
        next_stamp = message.next_stamp.sec * SECOND + message.next_stamp.nanosec
        assert next_stamp == START + (i + 1) * PERIOD
        assert (message.max_displacement_x, message.max_displacement_y) == (75.0, 75.0)
        color = outcome.read("flow/color")[i].message
        np.testing.assert_array_equal(color.data.reshape(6, 8, 3), flow_color(flow, 20.0))


def test_one_call_per_frame_with_the_same_seed(tmp_path: Path) -> None:
    options: dict[str, Any] = {"seed": 7, "sampler": "ddim_trailing", "num_inference_steps": 3, "ensemble_size": 2}
    outcome = Outcome(tmp_path, camera(3), **options, flip_members=True, resize="letterbox")
    calls = outcome.pipe.calls
    assert [call["tasks"] for call in calls] == [("depth", "flow"), ("depth", "flow"), ("depth",)]
    for call in calls:
        assert {name: call[name] for name in options} == options
        assert call["flip_members"] is True
        assert call["resize"] == "letterbox"


def test_status(tmp_path: Path) -> None:
    messages = camera(4)
    broken = messages[1].message
    broken.step = 5
    statuses = [read.message for read in Outcome(tmp_path, messages, sampler="one_step").read("status")]
    assert [status.tasks for status in statuses] == [["depth", "flow"], ["depth", "flow"], ["depth"]]
    first, _, last = statuses
    assert (first.checkpoint, first.device, first.dtype, first.codec) == ("brightness", "cpu", "float32", "none")
    assert (first.sampler, list(first.num_inference_steps), first.ensemble_size) == ("one_step", [1, 1], 1)
    assert first.pair_stamp.nanosec == 2 * PERIOD
    assert (last.pair_stamp.sec, last.pair_stamp.nanosec) == (0, 0)
    assert (last.frames_received, last.frames_processed) == (4, 3)
    assert (last.drop_reasons, list(last.drop_counts)) == (["size_mismatch"], [1])
    assert math.isnan(first.total_ms)
    assert first.device_memory == 0


def test_status_holds_times_on_request(tmp_path: Path) -> None:
    status = Outcome(tmp_path, camera(2), include_status=True).read("status")[0].message
    assert 0 < status.publish_ms < status.total_ms < 10_000


BAD: dict[str, dict[str, Any]] = {
    "size_mismatch": {"step": 3},
    "unknown_encoding": {"encoding": "plaid8"},
    "zero_size": {"height": 0, "width": 0, "data": np.zeros(0, np.uint8)},
}


@pytest.mark.parametrize("reason", list(BAD))
def test_a_bad_frame_is_skipped_and_its_neighbours_pair(tmp_path: Path, reason: str) -> None:
    messages = camera(4)
    bad = image(START + PERIOD, picture(1), **BAD[reason])
    messages[1] = messages[1]._replace(message=bad)
    outcome = Outcome(tmp_path, messages)
    good = [START, START + 2 * PERIOD, START + 3 * PERIOD]
    assert outcome.stamps("depth/relative") == good
    assert outcome.stamps("flow") == good[:-1]
    assert outcome.read("flow")[0].message.next_stamp.nanosec == 2 * PERIOD
    assert outcome.summary.skipped == {reason: 1}
    assert outcome.summary.exit_status == 3


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_bytes_that_are_no_message_are_skipped(tmp_path: Path, storage: StoragePlugin) -> None:
    source = write_bag(tmp_path / "in", camera(3), storage)
    path = next(iter({*source.glob("*.mcap"), *source.glob("*.db3")}))
    content = path.read_bytes()
    name = b"\x0f\x00\x00\x00camera_optical\x00"
    second = content.index(name, content.index(name) + 1)
    path.write_bytes(content[:second] + b"\xff\xff\xff\x7f" + content[second + 4 :])
    summary = replay(source, tmp_path / "out", as_pipeline(BrightnessPipeline()))
    assert summary.skipped == {"undeserializable": 1}
    assert summary.pairs == 1


def test_a_changed_resolution_interrupts_flow_alone(tmp_path: Path) -> None:
    messages = camera(4)
    for i in (2, 3):
        messages[i] = messages[i]._replace(message=image(START + i * PERIOD, picture(i, 10, 12)))
    outcome = Outcome(tmp_path, messages)
    assert [read.message.width for read in outcome.read("depth/relative")] == [8, 8, 12, 12]
    assert outcome.stamps("flow") == [START, START + 2 * PERIOD]
    assert outcome.summary.omitted == {"resolution_changed": 1}
    assert outcome.summary.exit_status == 0


def test_max_frame_gap(tmp_path: Path) -> None:
    stamps = [START, START + SECOND, START + 3 * SECOND]
    messages = [Recorded(IMAGE_TOPIC, image(stamp, picture(i)), stamp) for i, stamp in enumerate(stamps)]
    outcome = Outcome(tmp_path, messages, max_frame_gap=1.0)
    assert outcome.stamps("flow") == [START]
    assert outcome.summary.omitted == {"frame_gap": 1}


def test_tasks_that_the_checkpoint_lacks_are_left_out_by_default(tmp_path: Path) -> None:
    outcome = Outcome(tmp_path, camera(2), able=("depth",))
    assert set(outcome.topics) == {"/perception/depth/relative", "/perception/depth/color", "/perception/status"}


def test_normals_are_published_by_checkpoints_that_see_them(tmp_path: Path) -> None:
    outcome = Outcome(tmp_path, camera(2), able=("depth", "normals"))
    assert outcome.stamps("normals") == outcome.stamps("normals/color") == [START, START + PERIOD]
    message, color = (outcome.read(topic)[0].message for topic in ("normals", "normals/color"))
    assert (message.encoding, color.encoding) == ("32FC3", "bgr8")
    assert np.unique(floats(message).reshape(-1, 3), axis=0).tolist() == [[0, -1, 0]]
    assert np.unique(color.data.reshape(-1, 3), axis=0).tolist() == [[128, 255, 128]]
    without = Outcome(tmp_path / "without", camera(2), able=("depth", "normals"), tasks=("depth",))
    assert "/perception/normals" not in without.topics


def test_flow_alone_asks_nothing_for_the_last_frame(tmp_path: Path) -> None:
    outcome = Outcome(tmp_path, camera(3), tasks=("flow",))
    assert [call["tasks"] for call in outcome.pipe.calls] == [("flow",), ("flow",)]
    assert len(outcome.stamps("status")) == 3
    assert "/perception/depth/relative" not in outcome.topics


def test_pair_topic(tmp_path: Path) -> None:
    second = "/camera/next"
    stamps: dict[int, list[float]] = {0: [0], 1: [1.4, 1.6], 2: [], 3: [4.5]}
    messages = camera(5)
    messages += [
        Recorded(second, image(START + int(s * PERIOD), picture(20 + i)), START + int(s * PERIOD) + 9)
        for i, s in enumerate(s for group in stamps.values() for s in group)
    ]
    outcome = Outcome(tmp_path, messages, pair_topic=second)
    assert outcome.stamps("depth/relative") == [START + i * PERIOD for i in range(5)]
    assert outcome.stamps("flow") == [START, START + PERIOD, START + 4 * PERIOD]
    found = [read.message.next_stamp.nanosec / PERIOD for read in outcome.read("flow")]
    assert found == [0, 1.4, 4.5]
    np.testing.assert_array_equal(outcome.pipe.calls[1]["next_image"], picture(21))
    assert outcome.summary.omitted == {"no_partner": 2}


def test_compressed_images(tmp_path: Path) -> None:
    messages = []
    for i in range(3):
        data = cv2.imencode(".png", picture(i)[..., ::-1])[1].reshape(-1)
        stamp = START + i * PERIOD
        message = ros(
            "sensor_msgs/msg/CompressedImage", header=header(stamp), format="rgb8; png compressed bgr8", data=data
        )
        messages.append(Recorded("/camera/image_raw/compressed", message, stamp))
    messages[1].message.data = messages[1].message.data[:30]
    messages.append(Recorded("/camera/camera_info", camera_info(START), START))
    outcome = Outcome(tmp_path, messages)
    depth = (picture(2).mean(axis=2) / 255).astype(np.float32)
    np.testing.assert_array_equal(floats(outcome.read("depth/relative")[1].message), depth)
    assert outcome.summary.skipped == {"undecodable": 1}
    assert len(outcome.read("depth/camera_info")) == 2


def test_camera_info_is_copied_with_the_frames_header(tmp_path: Path) -> None:
    infos = [
        Recorded("/camera/camera_info", camera_info(START, 1.0), START + 7),
        Recorded("/camera/camera_info", camera_info(START + 2 * PERIOD, 3.0, "other"), START + 2 * PERIOD + 7),
        Recorded("/camera/camera_info", camera_info(START + 2 * PERIOD + 8, 4.0), START + 2 * PERIOD + 8),
    ]
    outcome = Outcome(tmp_path, [*camera(4), *infos])
    copied = outcome.read("depth/camera_info")
    assert [read.stamp for read in copied] == [START + i * PERIOD for i in range(4)]
    assert [read.message.k[0] for read in copied] == [1.0, 1.0, 3.0, 4.0]
    assert {read.message.header.frame_id for read in copied} == {"camera_optical"}
    assert outcome.summary.warnings == ()


def test_a_missing_camera_info_is_said_once(tmp_path: Path) -> None:
    outcome = Outcome(tmp_path, camera(3))
    assert len(outcome.summary.warnings) == 1
    assert "/perception/depth/camera_info" not in outcome.topics


def test_flow_needs_no_camera_info(tmp_path: Path) -> None:
    assert Outcome(tmp_path, camera(3), tasks=("flow",)).summary.warnings == ()


@pytest.mark.parametrize("tasks", [("depth",), ("flow",), ("depth", "flow")])
def test_the_table_is_about_the_chosen_tasks(tmp_path: Path, tasks: tuple[str, ...]) -> None:
    text = Outcome(tmp_path, camera(3), tasks=tasks).summary.to_text()
    assert ("flow pairs" in text) == ("flow" in tasks)
    assert "amodal" not in text


def test_include_input(tmp_path: Path) -> None:
    infos = [Recorded("/camera/camera_info", camera_info(START + i * PERIOD), START + i * PERIOD + 3) for i in range(3)]
    messages = [*camera(3), *infos, masks(START, labels(1), START + PERIOD)]
    messages.append(Recorded("/other", camera_info(START), START))
    outcome = Outcome(tmp_path, messages, include_input=True, visible_masks_topic=MASKS_TOPIC, namespace="eyes/front/")
    copied_topics = (IMAGE_TOPIC, "/camera/camera_info", MASKS_TOPIC)
    with BagReader(tmp_path / "in") as source, BagReader(tmp_path / "out") as output:
        assert list(output.messages(copied_topics)) == list(source.messages(copied_topics))
    assert "/other" not in outcome.topics
    assert {topic.rpartition("/eyes/front/")[1] for topic in outcome.topics} == {"", "/eyes/front/"}


def test_refusals_of_the_pipeline(tmp_path: Path) -> None:
    class Fussy(BrightnessPipeline):
        refuses = 2

        asked = 0

        def request(self, *images: Any, **arguments: Any) -> Any:
            self.asked += 1
            if self.asked == self.refuses:
                raise InputError("not this one.")
            return super().request(*images, **arguments)

    source = write_bag(tmp_path / "in", camera(4))
    summary = replay(source, tmp_path / "out", as_pipeline(Fussy()))
    assert summary.skipped == {"refused_by_pipeline": 1}
    assert summary.frames_processed == 3
    Fussy.refuses = 1
    summary = replay(source, tmp_path / "first", as_pipeline(Fussy()))
    assert (summary.skipped, summary.frames_processed) == ({"refused_by_pipeline": 1}, 3)
    single = write_bag(tmp_path / "single", camera(1))
    words = r"0 of 1 message on .* could be used \(refused_by_pipeline 1\): not this one\."
    with pytest.raises(InputError, match=words):
        replay(single, tmp_path / "refused", as_pipeline(Fussy()))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampler": "euler"}, "sampler 'euler'"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"ensemble_size": 0}, "ensemble_size"),
        ({"tasks": ("normals",)}, "normals"),
        ({"resize": "crop"}, "resize"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_are_refused_before_the_first_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: str
) -> None:
    def decode(*arguments: Any) -> None:
        raise AssertionError

    source = write_bag(tmp_path / "in", camera(2))
    monkeypatch.setattr("diffusion_perception_ros.replay.frames.FrameDecoder.decode", decode)
    pipe = BrightnessPipeline()
    with pytest.raises(InputError, match=words):
        replay(source, tmp_path / "out", as_pipeline(pipe), ReplaySettings(**options))
    assert pipe.calls == []


@pytest.mark.parametrize(
    ("count", "options", "words"),
    [
        (1, {"tasks": ("flow",)}, "1 frame on .* gave no result .* flow needs two frames"),
        (3, {"tasks": ("amodal",), "visible_masks_topic": MASKS_TOPIC}, "masks_without_frame 1"),
    ],
)
def test_no_result_at_all_is_an_error(tmp_path: Path, count: int, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Outcome(tmp_path, [*camera(count), masks(START - 1, labels(1), START)], image_topic=IMAGE_TOPIC, **options)
    assert not (tmp_path / "out").exists()


def test_no_usable_frame_is_an_error(tmp_path: Path) -> None:
    messages = [Recorded(IMAGE_TOPIC, image(START + i, picture(i), "plaid8"), START + i) for i in range(3)]
    with pytest.raises(InputError, match=r"0 of 3 messages .* \(unknown_encoding 3\)\."):
        Outcome(tmp_path, messages)


def test_progress_counts_the_images(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    source = write_bag(tmp_path / "in", camera(3))
    replay(source, tmp_path / "out", as_pipeline(BrightnessPipeline()), progress=lambda *counts: seen.append(counts))
    assert seen == [(1, 3), (2, 3), (3, 3)]
