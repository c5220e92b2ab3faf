from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from diffusion_perception_ros.msg import AmodalMaskArray, OpticalFlow, PerceptionStatus
from node_rig import (
    IMAGE_TOPIC,
    PERIOD,
    SECOND,
    START,
    Rig,
    camera_info,
    compressed_message,
    elsewhere,
    floats,
    image_message,
    picture,
    stamps,
)
from numpy.typing import NDArray
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

MakeRig = Callable[..., Rig]


def depth_of(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels[..., 0].astype(np.float32) / 255


def test_a_remap_of_image_moves_the_compressed_topic_and_the_calibration(rig: MakeRig) -> None:
    r = rig("-p", "image_transport:=compressed").up()
    r.wait(lambda: r.tester.count_subscribers(f"{IMAGE_TOPIC}/compressed") == 1)
    r.wait(lambda: r.tester.count_subscribers("/camera/camera_info") == 1)
    r.wait(lambda: not r.tester.count_subscribers(IMAGE_TOPIC))
    depth = r.subscribe("/depth/relative", Image)
    pixels = picture(1)
    _, png = cv2.imencode(".png", pixels[..., ::-1])
    r.publish(f"{IMAGE_TOPIC}/compressed", compressed_message(START, png.tobytes()))
    r.wait(lambda: depth)
    np.testing.assert_array_equal(floats(depth[0]), depth_of(pixels))


def test_a_remap_of_camera_info_wins(rig: MakeRig) -> None:
    r = rig("-r", "camera_info:=/calibration").up()
    r.wait(lambda: r.tester.count_subscribers("/calibration") == 1)
    r.wait(lambda: not r.tester.count_subscribers("/camera/camera_info"))


@pytest.mark.parametrize("reliability", [ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT])
def test_cameras_of_either_reliability_are_heard(rig: MakeRig, reliability: ReliabilityPolicy) -> None:
    r = rig().up()
    depth = r.subscribe("/depth/relative", Image)
    message = image_message(START, picture(1))
    r.publish(IMAGE_TOPIC, message, reliability=reliability, durability=DurabilityPolicy.VOLATILE)
    r.wait(lambda: stamps(depth) == [START])


def test_bad_messages_are_counted_by_reason_and_stop_nothing(rig: MakeRig) -> None:
    r = rig().up()
    status = r.subscribe("/status", PerceptionStatus)
    r.subscribe("/depth/relative", Image)
    r.image(START + PERIOD)
    r.wait(lambda: len(status) == 1)
    empty = image_message(START + 2 * PERIOD, picture(2))
    empty.data = array.array("B")
    negative = image_message(START, picture(2))
    negative.header.stamp.sec = -5
    r.publish(IMAGE_TOPIC, empty)
    r.publish(IMAGE_TOPIC, negative)
    r.image(START + 3 * PERIOD, encoding="rot13")
    r.image(START + 4 * PERIOD, height=0)
    r.image(START + PERIOD)  # once more
    r.wait(lambda: sum(r.drops.values()) == 5)
    r.image(START + 5 * PERIOD)
    r.wait(lambda: len(status) == 2)
    last = status[1]
    assert dict(zip(last.drop_reasons, last.drop_counts, strict=True)) == {
        "size_mismatch": 1,
        "malformed_message": 1,
        "unknown_encoding": 1,
        "zero_size": 1,
        "non_monotonic_stamp": 1,
    }
    assert (last.frames_received, last.frames_processed) == (7, 2)


@pytest.mark.parametrize(
    ("stamps_of_frames", "pixels", "reason"),
    [
        ([0, 0], None, "pair_zero_stamp"),
        ([START, START + 2 * SECOND], None, "pair_frame_gap"),
        ([START, START + PERIOD], picture(1, 10, 10), "pair_resolution_changed"),
    ],
)
def test_frames_that_make_no_pair(rig: MakeRig, stamps_of_frames: list[int], pixels: Any, reason: str) -> None:
    r = rig().up()
    status, flow = r.subscribe("/status", PerceptionStatus), r.subscribe("/flow", OpticalFlow)
    depth = r.subscribe("/depth/relative", Image)
    r.image(stamps_of_frames[0])
    r.wait(lambda: len(status) == 1)
    r.image(stamps_of_frames[1], pixels)
    r.wait(lambda: len(status) == 2)
    assert r.drops == {reason: 1}
    assert stamps(depth) == stamps_of_frames
    assert not flow


def test_a_looped_bag_begins_anew(rig: MakeRig) -> None:
    r = rig().up()
    status, flow = r.subscribe("/status", PerceptionStatus), r.subscribe("/flow/image", Image)
    r.subscribe("/depth/relative", Image)
    times = [START + i * PERIOD for i in range(3)] * 2
    for i, stamp in enumerate(times):
        r.image(stamp)
        r.arrived(status, i + 1)
    assert stamps(flow) == [*times[:2], *times[:2]]
    assert r.drops == {}


def masks_message(stamp: int, *ids: int) -> Any:
    labels = np.zeros((6, 8), np.uint16)
    for column, label in enumerate(ids):
        labels[1 : 3 + column, 2 * column : 2 * column + 2] = label
    return image_message(stamp, labels, "16UC1")


def test_masks_find_their_frame_in_the_history(rig: MakeRig) -> None:
    r = rig("-p", "amodal.max_instances:=2").up()
    pipe: Any = r.pipe
    masks = r.subscribe("/amodal/masks", AmodalMaskArray)
    for i in range(4):
        r.image(START + i * PERIOD)
    calls = len(pipe.calls)
    r.publish("/visible_masks", masks_message(START + PERIOD, 300, 5, 70))
    r.wait(lambda: len(masks) == 1)
    assert stamps(masks) == [START + PERIOD]
    assert [mask.id for mask in masks[0].masks] == [5, 70]  # the smallest is left out
    assert masks[0].omitted == 1
    (call,) = pipe.calls[calls:]  # all instances of a frame at once
    np.testing.assert_array_equal(call["image"], picture(START + PERIOD))
    r.publish("/visible_masks", masks_message(START + 2 * PERIOD))
    r.wait(lambda: len(masks) == 2)
    assert masks[1].masks == []
    r.publish("/visible_masks", masks_message(START, 1))
    r.wait(lambda: r.drops.get("masks_out_of_order") == 1)
    r.publish("/visible_masks", image_message(START + 3 * PERIOD, np.zeros((3, 3), np.uint8), "mono8"))
    r.wait(lambda: r.drops.get("masks_size_mismatch") == 1)
    r.publish("/visible_masks", masks_message(START + 4 * PERIOD, 8))  # earlier than its frame
    r.wait(lambda: r.node._cameras[0].inputs.intake._pending_labels.last is not None)
    r.image(START + 4 * PERIOD)
    r.wait(lambda: stamps(masks)[-1] == START + 4 * PERIOD)


@pytest.mark.parametrize("slop", [0.0, 0.15])
def test_image_and_image_next_are_joined_by_their_stamps(rig: MakeRig, slop: float) -> None:
    r = rig("-p", "pairing:=topics", "-p", f"sync_slop:={slop}", "-r", "image_next:=/camera/next").up()
    offset = PERIOD if slop else 0
    flow = r.subscribe("/flow", OpticalFlow)
    times = [START + i * SECOND for i in range(3)]
    # A second loop, too: the filters match nothing more after stamps have jumped back unless they are built anew.
    for loop in range(2):
        for i, stamp in enumerate(times):
            r.image(stamp)
            r.image(stamp + offset, picture(9), topic="/camera/next")
            r.arrived(flow, 3 * loop + i + 1)
    assert stamps(flow) == times * 2
    assert flow[0].next_stamp.sec * SECOND + flow[0].next_stamp.nanosec == START + offset
    expected = np.float32(picture(9).mean()) - np.float32(picture(times[1]).mean())
    np.testing.assert_allclose(floats(flow[1].flow), expected)


def test_messages_that_cannot_be_joined_do_not_block_the_filters(rig: MakeRig) -> None:
    r = rig("-p", "pairing:=topics").up()
    flow = r.subscribe("/flow", OpticalFlow)
    negative = image_message(START, picture(1))
    negative.header.stamp.sec = -1
    r.publish(IMAGE_TOPIC, negative)
    r.image(0)
    r.image(0, topic="/image_next")
    intake = r.node._cameras[0].inputs.intake
    broken = intake.add_pair
    intake.add_pair = None  # what an error in the callback would be
    r.node._cameras[0].inputs._synchronizer._on_pair = lambda *_: 1 / 0
    r.image(START)
    r.image(START, topic="/image_next")
    r.wait(lambda: any("ZeroDivisionError" in log for log in r.logs))
    r.node._cameras[0].inputs._synchronizer._on_pair = broken
    r.image(START + PERIOD)
    r.image(START + PERIOD, topic="/image_next")
    r.wait(lambda: stamps(flow) == [START + PERIOD])


def test_a_silent_input_is_named_with_the_reason(rig: MakeRig) -> None:
    name = f"qos_overrides.{IMAGE_TOPIC}.subscription.reliability"
    r = rig("-p", "diagnostics.missing_input_timeout:=0.2", "-p", "diagnostics.period:=0.05", "-p", f"{name}:=reliable")
    r.up()
    r.wait(lambda: any("nobody publishes it" in log and IMAGE_TOPIC in log for log in r.logs))
    message = image_message(START, picture(1))
    r.publish(IMAGE_TOPIC, message, is_heard=False, reliability=ReliabilityPolicy.BEST_EFFORT)
    r.wait(lambda: "quality of service of tester does not fit" in r.diagnostics()["inputs"].message)
    assert r.diagnostics()["inputs"].level == b"\1"
    assert r.set(diagnostics__missing_input_timeout=3600.0)[0]
    r.wait(lambda: r.diagnostics()["inputs"].level == b"\0")


def test_a_publisher_of_another_type_is_named(rig: MakeRig) -> None:
    r = rig("-p", "diagnostics.missing_input_timeout:=0.1", "-p", "diagnostics.period:=0.05").up()
    with elsewhere() as node:
        node.create_publisher(CompressedImage, IMAGE_TOPIC, 1)
        r.wait(lambda: any("published as sensor_msgs/msg/CompressedImage" in log for log in r.logs))


def test_distortion_without_rectification_is_warned_about(rig: MakeRig) -> None:
    r = rig().up()
    r.publish("/camera/camera_info", camera_info(START, distortion=0.1))
    r.wait(lambda: any("lens distortion" in log for log in r.logs))
