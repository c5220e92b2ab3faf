from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusion_perception_ros.msg import PerceptionStatus
from node_rig import FAILURE, IMAGE_TOPIC, PERIOD, START, SUCCESS, Rig, stamps
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from diffusion_perception_ros.pipeline import PerceptionPipeline

MakeRig = Callable[..., Rig]
OUTPUTS = {
    "/depth/relative", "/depth/uncertainty", "/depth/color", "/depth/image", "/depth/camera_info",
    "/flow", "/flow/image", "/flow/color", "/amodal/masks", "/amodal/overlay", "/status",
}  # fmt: skip


def test_topics_come_with_configure_and_data_with_activate(rig: MakeRig) -> None:
    r = rig()
    r.wait(lambda: not any(r.tester.count_publishers(topic) for topic in OUTPUTS))
    assert r.node.trigger_configure() == SUCCESS
    r.wait(lambda: all(r.tester.count_publishers(topic) == 1 for topic in OUTPUTS))
    depth = r.subscribe("/depth/relative", Image)
    r.wait(lambda: r.tester.count_subscribers(IMAGE_TOPIC) == 0)
    assert r.node.trigger_activate() == SUCCESS
    r.wait(lambda: r.tester.count_subscribers(IMAGE_TOPIC) == 1)
    r.image(START)
    r.wait(lambda: len(depth) == 1)
    assert r.node.trigger_deactivate() == SUCCESS
    r.wait(lambda: r.tester.count_subscribers(IMAGE_TOPIC) == 0)
    r.publish(IMAGE_TOPIC, depth[0])
    time.sleep(0.05)
    assert len(depth) == 1
    assert r.node.trigger_activate() == SUCCESS
    r.image(START + PERIOD)
    r.wait(lambda: len(depth) == 2)
    assert stamps(depth) == [START, START + PERIOD]
    assert r.node.trigger_deactivate() == SUCCESS
    assert r.node.trigger_cleanup() == SUCCESS
    r.wait(lambda: not any(r.tester.count_publishers(topic) for topic in OUTPUTS))
    r.up()
    r.wait(lambda: r.tester.count_subscribers("/depth/relative") == 1)


def test_a_broken_checkpoint_fails_configure_with_one_sentence_and_can_be_tried_again(
    rig: MakeRig, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoint"
    r = rig("-p", f"checkpoint:={folder}", load=True)
    assert r.node.trigger_configure() == FAILURE
    r.wait(lambda: any(log.startswith("configure failed: ") for log in r.logs))
    (sentence,) = (log for log in r.logs if log.startswith("configure failed: "))
    assert str(folder) in sentence
    assert "\n" not in sentence
    r.wait(lambda: not any(r.tester.count_publishers(topic) for topic in OUTPUTS))
    assert r.diagnostics()["model"].level == b"\2"
    assert str(folder) in r.diagnostics()["model"].message
    PerceptionPipeline.random(32).save_pretrained(folder)
    r.up()
    assert r.diagnostics()["model"].level == b"\0"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU")
def test_cuda_without_cuda_fails_and_only_auto_falls_back(rig: MakeRig) -> None:
    r = rig("-p", "device:=cuda", load=True)
    assert r.node.trigger_configure() == FAILURE
    r.wait(lambda: any("no CUDA GPU" in log for log in r.logs))
    r = rig()
    assert r.node.trigger_configure() == SUCCESS
    r.wait(lambda: any("running on the CPU" in log for log in r.logs))


def test_an_exception_in_a_transition_is_not_swallowed(rig: MakeRig) -> None:
    r = rig()
    pipe = r.pipe
    pipe.error = ValueError("broken\nand more")  # type: ignore[attr-defined]
    assert r.node.trigger_configure() == FAILURE
    r.wait(lambda: any("ValueError: broken" in log for log in r.logs))
    pipe.error = None  # type: ignore[attr-defined]
    assert r.node.trigger_configure() == SUCCESS


@pytest.mark.parametrize("depth_of_state", [0, 1, 2])
def test_shutdown_from_every_state(rig: MakeRig, depth_of_state: int) -> None:
    r = rig()
    for trigger in (r.node.trigger_configure, r.node.trigger_activate)[:depth_of_state]:
        assert trigger() == SUCCESS
    assert r.node.trigger_shutdown() == SUCCESS
    r.wait(lambda: not any(r.tester.count_publishers(topic) for topic in OUTPUTS))
    assert "perception" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(Exception, match=r"(?i)transition"):
        r.node.trigger_configure()


def test_deactivate_gives_up_what_is_being_computed(rig: MakeRig) -> None:
    r = rig().up()
    hold: Any = threading.Event()
    r.pipe.hold = hold  # type: ignore[attr-defined]
    calls = len(r.pipe.calls)  # type: ignore[attr-defined]
    r.subscribe("/depth/relative", Image)
    r.image(START)
    r.wait(lambda: len(r.pipe.calls) > calls)  # type: ignore[attr-defined]
    began = time.monotonic()
    assert r.node.trigger_deactivate() == SUCCESS
    assert time.monotonic() - began < 20  # it is held for ever
    r.pipe.hold = None  # type: ignore[attr-defined]
    assert r.node.trigger_activate() == SUCCESS
    r.image(START + PERIOD)
    r.wait(lambda: stamps(r.received["/depth/relative"]) == [START + PERIOD])


def test_reset_forgets_the_frame_before(rig: MakeRig) -> None:
    r = rig()
    client = r.tester.create_client(Trigger, "/perception/reset")
    assert client.wait_for_service(timeout_sec=5.0)

    def reset() -> Any:
        future = client.call_async(Trigger.Request())
        r.wait(future.done)
        return future.result()

    assert not reset().success
    r.up()
    flow = r.subscribe("/flow/image", Image)
    status = r.subscribe("/status", PerceptionStatus)
    r.subscribe("/depth/relative", Image)
    for i in range(3):
        r.image(START + i * PERIOD)
        r.arrived(status, i + 1)
        if i == 1:
            assert reset().success
    assert stamps(flow) == [START]
