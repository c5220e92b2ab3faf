from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from diffusion_perception_ros.msg import AmodalMaskArray, OpticalFlow, PerceptionStatus
from node_rig import (
    IMAGE_TOPIC,
    PERIOD,
    START,
    BrightnessPipeline,
    Rig,
    check_fields,
    floats,
    image_message,
    picture,
    stamps,
)
from rclpy.qos import DurabilityPolicy, HistoryPolicy, ReliabilityPolicy
from sensor_msgs.msg import Image

from diffusion_perception_ros.conversions import depth_color, flow_color
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.ros.outputs import Outputs

MakeRig = Callable[..., Rig]


def brightness_change(first: int, second: int) -> np.float32:
    return np.float32(picture(second).mean()) - np.float32(picture(first).mean())


@pytest.mark.parametrize("checked", [False, True])
def test_every_field_arrives_as_it_was_meant(rig: MakeRig, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    check_fields(monkeypatch, checked)
    r = rig("-p", "ensemble_size:=3", "-p", "sampler:=ddim_trailing").up()
    depth, uncertainty = r.subscribe("/depth/relative", Image), r.subscribe("/depth/uncertainty", Image)
    flow, masks = r.subscribe("/flow", OpticalFlow), r.subscribe("/amodal/masks", AmodalMaskArray)
    status = r.subscribe("/status", PerceptionStatus)
    first, second = START, START + PERIOD
    labels = np.zeros((6, 8), np.uint8)
    labels[1:3, 2:5] = 9
    r.publish("/visible_masks", image_message(second, labels, "mono8"))
    r.wait(lambda: r.node._cameras[0].inputs.intake._pending_labels.last is not None)
    r.image(first)
    r.wait(lambda: len(status) == 1)
    r.image(second)
    r.wait(lambda: len(status) == 2)
    r.wait(lambda: depth[1:] and uncertainty[1:] and flow and masks)

    assert (depth[1].encoding, depth[1].height, depth[1].width, depth[1].step) == ("32FC1", 6, 8, 32)
    red = picture(second)[..., 0].astype(np.float32) / 255
    np.testing.assert_array_equal(floats(depth[1]), red)
    np.testing.assert_array_equal(floats(uncertainty[1]), red / 2)
    np.testing.assert_array_equal(floats(flow[0].flow), np.full((6, 8, 2), brightness_change(first, second)))
    assert (flow[0].max_displacement_x, flow[0].max_displacement_y) == (75.0, 75.0)
    assert flow[0].standard_deviation.height == 0
    (mask,) = masks[0].masks
    assert (mask.id, mask.visible_area, mask.amodal_area) == (9, 6, 15)
    assert mask.occluded_fraction == pytest.approx(1 - 6 / 15)
    assert mask.touches_border is True
    assert math.isnan(mask.agreement)
    assert (masks[0].height, masks[0].width, masks[0].omitted) == (6, 8, 0)
    last = status[1]
    assert (last.checkpoint, last.device, last.dtype, last.sampler) == ("random", "cpu", "float32", "ddim_trailing")
    assert sorted(last.tasks) == ["amodal", "depth", "flow"]
    assert list(last.num_inference_steps) == [1, 1, 1]
    assert (last.ensemble_size, last.frames_received, last.frames_processed) == (3, 2, 2)
    assert 0 < last.publish_ms < last.total_ms < 10_000
    assert (last.encode_ms, last.denoise_ms, last.decode_ms) == (
        1,
        2,
        3,
    )  # of the batch all jobs share
    assert last.input_age_ms > 1e9  # the stamps are from 2023
    assert math.isnan(last.depth_scale)
    assert last.warm_started is False


def test_headers_are_those_of_the_frames(rig: MakeRig) -> None:
    r = rig().up()
    topics = {topic: r.subscribe(topic, Image) for topic in ("/depth/color", "/depth/relative", "/flow/image")}
    flow, status = r.subscribe("/flow", OpticalFlow), r.subscribe("/status", PerceptionStatus)
    for i in range(3):
        r.image(START + i * PERIOD)
        r.arrived(status, i + 1)
    r.wait(lambda: len(flow) == 2)
    times = [START + i * PERIOD for i in range(3)]
    assert stamps(topics["/depth/relative"]) == stamps(topics["/depth/color"]) == times  # about the newest frame
    assert stamps(topics["/flow/image"]) == stamps(flow) == times[:2]  # from the first frame
    assert [message.next_stamp.nanosec for message in flow] == [PERIOD, 2 * PERIOD]
    assert stamps(status) == times
    received = [*topics["/flow/image"], *flow, *topics["/depth/color"], *(message.flow for message in flow)]
    assert {message.header.frame_id for message in received} == {"camera_optical"}
    color = topics["/depth/color"][2]
    red = picture(times[2])[..., 0].astype(np.float32) / np.float32(255)
    assert bytes(color.data) == depth_color(red).tobytes()


def test_nothing_is_computed_without_subscribers(rig: MakeRig) -> None:
    r = rig().up()
    pipe: Any = r.pipe
    warm_up = len(pipe.calls)
    for i in range(3):
        r.image(START + i * PERIOD)
    r.wait(lambda: r.drops.get("not_wanted", 0) + r.drops.get("superseded", 0) == 3)
    assert len(pipe.calls) == warm_up
    color = r.subscribe("/flow/color", Image)
    for i in range(3, 6):
        r.image(START + i * PERIOD)
        r.arrived(color, i - 2)
    assert {call["tasks"] for call in pipe.calls[warm_up:]} == {("flow",)}
    expected = np.full((6, 8, 2), brightness_change(START + 4 * PERIOD, START + 5 * PERIOD), np.float32)
    assert bytes(color[2].data) == flow_color(expected, 8.0).tobytes()


def test_the_status_says_that_nothing_is_wanted(rig: MakeRig) -> None:
    r = rig().up()
    status = r.subscribe("/status", PerceptionStatus)
    r.image(START)
    r.arrived(status, 1)
    assert stamps(status) == [START]
    assert list(status[0].tasks) == []
    assert (status[0].frames_received, status[0].frames_processed) == (1, 0)
    assert (list(status[0].drop_reasons), list(status[0].drop_counts)) == (["not_wanted"], [1])
    assert math.isnan(status[0].total_ms)


def test_without_lazy_everything_is_computed(rig: MakeRig) -> None:
    r = rig("-p", "lazy:=false").up()
    pipe: Any = r.pipe
    warm_up = len(pipe.calls)
    r.image(START)
    r.wait(lambda: len(pipe.calls) > warm_up)
    r.image(START + PERIOD)
    r.wait(lambda: {call["tasks"] for call in pipe.calls[warm_up:]} == {("depth",), ("flow",)})


def test_topics_without_subscribers_are_not_even_converted(rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    converted: list[str] = []
    convert = Outputs.publish_fields

    def publish_fields(self: Outputs, topic: str, fields: Any) -> None:
        converted.append(topic)
        convert(self, topic, fields)

    monkeypatch.setattr(Outputs, "publish_fields", publish_fields)
    r = rig().up()
    flow = r.subscribe("/flow", OpticalFlow)
    r.image(START)
    r.image(START + PERIOD)
    r.arrived(flow, 1)
    assert converted == ["flow"]  # and not flow/image and flow/color, which come of the same prediction


def test_publishers_are_reliable_and_keep_the_newest(rig: MakeRig) -> None:
    r = rig().up()
    for topic in ("/depth/relative", "/flow", "/amodal/masks", "/status", "/depth/image"):
        r.wait(lambda topic=topic: r.tester.count_publishers(topic) == 1)  # type: ignore[misc]
        (info,) = r.tester.get_publishers_info_by_topic(topic)
        assert info.qos_profile.reliability == ReliabilityPolicy.RELIABLE
        assert info.qos_profile.durability == DurabilityPolicy.VOLATILE
    (publisher,) = (p for p in r.node._publishers if p.topic_name == "/flow")
    assert (publisher.qos_profile.history, publisher.qos_profile.depth) == (HistoryPolicy.KEEP_LAST, 1)


def test_quality_of_service_is_overridden_by_resolved_topic_and_for_that_topic_alone(rig: MakeRig) -> None:
    name = "qos_overrides./depth/relative.publisher.reliability"
    r = rig("-p", f"{name}:=best_effort").up()
    r.wait(lambda: r.tester.count_publishers("/depth/relative") == r.tester.count_publishers("/flow") == 1)
    reliability = {
        topic: r.tester.get_publishers_info_by_topic(topic)[0].qos_profile.reliability
        for topic in ("/depth/relative", "/depth/color", "/flow")
    }
    assert reliability.pop("/depth/relative") == ReliabilityPolicy.BEST_EFFORT
    assert set(reliability.values()) == {ReliabilityPolicy.RELIABLE}
    assert r.node.get_parameter(name).value == "best_effort"


def test_the_answers_are_those_of_the_pipeline(rig: MakeRig) -> None:
    """The real network, and the same call that replay makes."""
    pipe = PerceptionPipeline.random(32)
    r = rig("-p", "seed:=3", pipe=pipe).up()
    depth, flow = r.subscribe("/depth/relative", Image), r.subscribe("/flow/image", Image)
    r.image(START)
    r.wait(lambda: len(depth) == 1)
    r.image(START + PERIOD)
    r.wait(lambda: len(depth) == 2 and len(flow) == 1)
    first, second = picture(START), picture(START + PERIOD)
    expected = pipe(second, tasks=["depth"], seed=3).depth_relative
    assert np.allclose(floats(depth[1]), np.asarray(expected), atol=1e-5)
    expected = pipe(first, second, tasks=["flow"], seed=3).flow
    assert np.allclose(floats(flow[0]), np.asarray(expected), atol=1e-3)


def test_a_failing_prediction_is_reported_and_the_next_frame_works(rig: MakeRig) -> None:
    r = rig().up()
    pipe: Any = r.pipe
    depth = r.subscribe("/depth/relative", Image)
    pipe.error = RuntimeError("kernel exploded\nat line 3")
    r.image(START)
    r.wait(lambda: r.drops.get("inference_failed") == 1)
    r.wait(lambda: any("kernel exploded" in log and "\n" not in log for log in r.logs))
    pipe.error = None
    r.image(START + PERIOD)
    r.wait(lambda: stamps(depth) == [START + PERIOD])


def test_several_nodes_side_by_side(rig: MakeRig) -> None:
    left = rig("-r", "__ns:=/left").up()
    right = rig("-r", "__ns:=/right", pipe=BrightnessPipeline()).up()
    left_depth, right_depth = (
        left.subscribe("/left/depth/relative", Image),
        right.subscribe("/right/depth/relative", Image),
    )
    left.publish(IMAGE_TOPIC, image_message(START, picture(1)))
    left.wait(lambda: left_depth and right_depth)
    time.sleep(0.02)
    assert (len(left_depth), len(right_depth)) == (1, 1)
