"""Several cameras on one node: topics below each name, one batch, one copy of the weights."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from diffusion_perception_ros.msg import OpticalFlow, PerceptionStatus
from node_rig import FAILURE, PERIOD, START, BrightnessPipeline, Rig, floats, image_message, picture, stamps
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from diffusion_perception_ros.errors import InputError

MakeRig = Callable[..., Rig]


class CountingPipeline(BrightnessPipeline):
    """Knows which cameras were in each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[Any]] = []

    def batch(self, requests: Any, memory: Any = None, refine: Any = None) -> Any:
        self.batches.append([request.camera for request in requests])
        return super().batch(requests, memory, refine)


@pytest.fixture
def two(rig: MakeRig) -> Rig:
    """A node with the cameras front and left, which are given other shapes."""
    return rig("-p", "cameras:=[front,left]", pipe=CountingPipeline(), remap=False).up()


def show(r: Rig, camera: str, stamp: int, height: int = 6) -> Any:
    before = r._received
    pixels = picture(stamp + height, height)
    r.publish(f"/{camera}/image", image_message(stamp, pixels))
    r.wait(lambda: r._received > before)
    return pixels


def test_topics_are_below_each_camera(two: Rig) -> None:
    depth = {camera: two.subscribe(f"/{camera}/depth/relative", Image) for camera in ("front", "left")}
    flow = two.subscribe("/left/flow", OpticalFlow)
    status = two.subscribe("/left/status", PerceptionStatus)
    pixels = {camera: show(two, camera, START, height) for camera, height in (("front", 6), ("left", 10))}
    for camera, messages in depth.items():
        two.arrived(messages, 1)
        np.testing.assert_allclose(floats(messages[0]), pixels[camera][..., 0] / 255, atol=1e-6)
    show(two, "left", START + PERIOD, 10)
    two.arrived(flow, 1)
    two.wait(lambda: status and status[-1].frames_processed == 2)
    assert stamps(flow) == [START]
    assert status[-1].frames_received == 2
    assert status[-1].total_ms > 0
    assert two.tester.count_publishers("/depth/relative") == two.tester.count_subscribers("/image") == 0


def test_what_waits_shares_a_batch(two: Rig) -> None:
    """The one that has a new frame more often does not push the other aside."""
    pipe: Any = two.pipe
    depth = {camera: two.subscribe(f"/{camera}/depth/relative", Image) for camera in ("front", "left")}
    pipe.hold = threading.Event()
    show(two, "front", START)
    two.wait(lambda: pipe.batches[-1] == ["front"])
    for i in range(1, 5):
        show(two, "front", START + i * PERIOD)
    show(two, "left", START)
    pipe.hold.set()
    two.arrived(depth["left"], 1)
    two.arrived(depth["front"], 2)
    assert pipe.batches[-1] == ["front", "left"]
    assert stamps(depth["front"]) == [START, START + 4 * PERIOD]
    assert two.node._cameras[0].inputs.intake.drops == {"superseded": 3}
    assert not two.node._cameras[1].inputs.intake.drops


def test_a_jump_back_of_one_camera_is_its_own(two: Rig) -> None:
    flow = {camera: two.subscribe(f"/{camera}/flow", OpticalFlow) for camera in ("front", "left")}
    for camera in flow:
        show(two, camera, START + 100 * PERIOD)
    show(two, "front", START)
    show(two, "left", START + 101 * PERIOD)
    two.arrived(flow["left"], 1)
    show(two, "front", START + PERIOD)
    two.arrived(flow["front"], 1)
    assert stamps(flow["front"]) == [START]
    assert [camera.inputs.intake.generation for camera in two.node._cameras] == [2, 1]


def test_one_camera_whose_frames_are_refused(two: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others get their results all the same."""
    request = type(two.node._model).request

    def refuse(self: Any, *given: Any, camera: str, **options: Any) -> Any:
        if camera == "front":
            raise InputError("no.")
        return request(self, *given, camera=camera, **options)

    monkeypatch.setattr(type(two.node._model), "request", refuse)
    depth = {camera: two.subscribe(f"/{camera}/depth/relative", Image) for camera in ("front", "left")}
    show(two, "front", START)
    show(two, "left", START)
    two.arrived(depth["left"], 1)
    two.wait(lambda: two.node._cameras[0].inputs.intake.drops == {"refused_by_pipeline": 1})
    assert not depth["front"]


def test_reset_and_diagnostics_are_about_all(two: Rig) -> None:
    names = {status.name for status in two.report()}
    assert names >= {
        "perception/front: inputs",
        "perception/left: inputs",
        "perception/left: outputs",
        "perception: model",
    }
    client = two.tester.create_client(Trigger, "/perception/reset")
    assert client.wait_for_service(timeout_sec=10)
    future = client.call_async(Trigger.Request())
    two.wait(future.done)
    assert future.result().success
    assert [camera.inputs.intake.generation for camera in two.node._cameras] == [2, 2]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("[front,front]", "cameras has 'front' twice; name each camera once"),
        ("[front,2nd]", "cameras has '2nd'; use letters, digits and underscores"),
    ],
)
def test_unusable_names(rig: MakeRig, names: str, sentence: str) -> None:
    r = rig("-p", f"cameras:={names}")
    assert r.node.trigger_configure() == FAILURE
    r.wait(lambda: any(sentence in log for log in r.logs))
