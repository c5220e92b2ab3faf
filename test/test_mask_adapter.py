from __future__ import annotations

import importlib.util
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from node_rig import check_fields
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from diffusion_perception_ros.conversions import labels_from_message
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.ros.mask_adapter import DECLARATIONS, MaskAdapter

# A mark, because launch_testing imports every file beside the one that is run, and would skip that one, too.
pytestmark = pytest.mark.skipif(importlib.util.find_spec("vision_msgs") is None, reason="vision_msgs is not installed")
with suppress(ModuleNotFoundError):
    from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

ROOT = Path(__file__).resolve().parent.parent
SENSOR = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


class Rig:
    """The adapter, next to a detector, a camera and a subscriber.

    Args:
        arguments: What follows ``--ros-args`` on the adapter's command line.
        kind: The detector's message class; by default Detection2DArray.
        subscribe: Whether somebody subscribes to the masks.
    """

    def __init__(self, *arguments: str, kind: Any = None, subscribe: bool = True) -> None:
        self.adapter = MaskAdapter(cli_args=["--ros-args", *arguments])
        self.peer = rclpy.create_node("peer")
        self.images: list[Any] = []
        self.detections = self.peer.create_publisher(kind or Detection2DArray, "detections", SENSOR)
        self.camera_info = self.peer.create_publisher(CameraInfo, "camera_info", SENSOR)
        self.image = self.peer.create_publisher(Image, "image", SENSOR)
        if subscribe:
            self.peer.create_subscription(Image, "visible_masks", self.images.append, SENSOR)
        self.executor = SingleThreadedExecutor()
        for node in (self.adapter, self.peer):
            self.executor.add_node(node)
        self.wait(lambda: self.detections.get_subscription_count() == 1)

    def wait(self, condition: Any, seconds: float = 60.0) -> None:
        """Spin until something is true."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not happen"
            self.executor.spin_once(timeout_sec=0.02)

    def send(self, publisher: Any, message: Any) -> None:
        """Publish, and let the adapter take it."""
        self.wait(lambda: publisher.get_subscription_count() > 0)
        publisher.publish(message)
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def masks(self, message: Any) -> tuple[Any, NDArray[Any]]:
        """The label image for a message of detections."""
        before = len(self.images)
        self.send(self.detections, message)
        self.wait(lambda: len(self.images) > before)
        return self.images[-1], labels_from_message(self.images[-1])

    def close(self) -> None:
        """Take the nodes down."""
        self.adapter.destroy_node()
        self.peer.destroy_node()


@contextmanager
def rig(*arguments: str, **options: Any) -> Iterator[Rig]:
    rclpy.init(args=[])
    try:
        made = Rig(*arguments, **options)
        try:
            yield made
        finally:
            made.close()
    finally:
        rclpy.try_shutdown()


def camera_info(height: int = 48, width: int = 64) -> Any:
    return CameraInfo(height=height, width=width)


def detections(*boxes: tuple[float, ...], scores: tuple[float, ...] = ()) -> Any:
    message = Detection2DArray()
    message.header.stamp.sec, message.header.stamp.nanosec = 1_700_000_000, 5
    message.header.frame_id = "camera_optical_frame"
    for i, (x, y, width, height) in enumerate(boxes):
        detection = Detection2D()
        detection.bbox.center.position.x, detection.bbox.center.position.y = float(x), float(y)
        detection.bbox.size_x, detection.bbox.size_y = float(width), float(height)
        if scores:
            hypothesis = ObjectHypothesisWithPose()
            hypothesis.hypothesis.score = scores[i]
            detection.results = [hypothesis]
        message.detections = [*message.detections, detection]
    return message


@pytest.mark.parametrize("checked", [False, True])
def test_boxes_become_a_label_image_with_their_header(monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    check_fields(monkeypatch, checked)
    with rig() as made:
        made.send(made.camera_info, camera_info())
        message, labels = made.masks(detections((20, 10, 8, 4), (40, 30, 10, 10)))
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (1_700_000_000, 5)
    assert message.header.frame_id == "camera_optical_frame"
    assert (message.height, message.width, message.encoding, message.step) == (48, 64, "mono8", 64)
    expected = np.zeros((48, 64), np.uint8)
    expected[8:12, 16:24], expected[25:35, 35:45] = 1, 2
    np.testing.assert_array_equal(labels, expected)


def test_more_than_255_boxes_need_16_bits() -> None:
    with rig() as made:
        made.send(made.camera_info, camera_info())
        message, labels = made.masks(detections(*[(5.5, 5.5, 1, 1)] * 299, (9.5, 9.5, 1, 1)))
    assert message.encoding == "16UC1"
    assert labels[9, 9] == 300


def test_parameters_choose_what_is_in_front_and_what_is_left_out() -> None:
    boxes, scores = [(20, 20, 20, 20), (25, 24, 20, 20), (50, 40, 9, 9)], (0.9, 0.5, 0.1)
    with rig("-p", "overlap:=lower_edge", "-p", "min_score:=0.2") as made:
        made.send(made.camera_info, camera_info())
        _, labels = made.masks(detections(*boxes, scores=scores))
    assert labels[22, 25] == 2
    assert set(np.unique(labels)) == {0, 1, 2}


def test_the_size_can_come_from_the_image_and_may_change() -> None:
    with rig("-p", "size_from:=image") as made:
        for height, width in ((48, 64), (24, 32)):
            image = Image(height=height, width=width, encoding="mono8", step=width)
            image.data.frombytes(bytes(height * width))
            made.send(made.image, image)
            assert made.masks(detections((5, 5, 2, 2)))[1].shape == (height, width)


def test_yolo_masks_become_a_label_image() -> None:
    yolo = pytest.importorskip("yolo_msgs.msg")
    message = yolo.DetectionArray()
    message.header.stamp.sec = 7
    detection = yolo.Detection(score=0.5)
    detection.mask.height, detection.mask.width = 48, 64
    detection.mask.data = [yolo.Point2D(x=x, y=y) for x, y in ((10.0, 10.0), (19.0, 10.0), (19.0, 14.0), (10.0, 14.0))]
    message.detections = [detection]
    with rig("-p", "source:=yolo_msgs", kind=yolo.DetectionArray) as made:
        made.send(made.camera_info, camera_info())
        _, labels = made.masks(message)
    assert labels[10:15, 10:20].all()
    assert np.count_nonzero(labels) == 50


def test_bad_messages_are_counted_and_the_next_good_one_works() -> None:
    with rig() as made:
        made.send(made.detections, detections((5, 5, 2, 2)))  # no camera_info yet
        made.send(made.camera_info, camera_info(0, 0))
        made.send(made.camera_info, camera_info())
        made.send(made.detections, Detection2DArray())  # no stamp
        bad = detections((math.nan, 5, 2, 2), (5, 5, 0, 2), (1e300, 5, 2, 2), (math.inf, 5, math.inf, 2), (9, 9, 2, 2))
        _, labels = made.masks(bad)
        assert set(np.unique(labels)) == {0, 5}
        assert made.adapter.dropped == {"no_size": 1, "zero_size": 1, "no_stamp": 1, "unusable_detection": 4}


def test_nothing_is_computed_without_subscribers() -> None:
    with rig(subscribe=False) as made:
        made.send(made.detections, detections((5, 5, 2, 2)))
        assert not made.adapter.dropped


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-p", "source:=boxes"), "source is 'boxes'; it must be vision_msgs or yolo_msgs."),
        (("-p", "min_score:=2"), "min_score is 2.0; it must be from 0 to 1."),
        (("-p", "overlap:=1"), "overlap is 1; it must be of type string."),
    ],
)
def test_an_unusable_parameter_is_one_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    rclpy.init(args=[])
    try:
        with pytest.raises(InputError) as caught:
            MaskAdapter(cli_args=["--ros-args", *arguments])
    finally:
        rclpy.try_shutdown()
    assert str(caught.value) == sentence


def test_the_readme_has_the_parameters() -> None:
    text = (ROOT / "README.md").read_text()
    for each in DECLARATIONS:
        assert f"| `{each.name}` | {each.type_name} | `{each.default}` |" in text


def run(*arguments: str) -> subprocess.Popen[str]:
    """The executable, as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "diffusion_perception_ros.ros.mask_adapter_node", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_interrupted_twice_it_ends_in_silence() -> None:
    with run("--ros-args", "-p", "min_score:=0") as process:
        assert process.stderr is not None
        assert "/detections (Detection2DArray) becomes /visible_masks" in process.stderr.readline()
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        _, complaints = process.communicate(timeout=10)
        assert (process.returncode, complaints) == (0, "")


def test_started_with_an_unusable_parameter_it_says_why() -> None:
    with run("--ros-args", "-p", "size_from:=guess") as process:
        _, complaints = process.communicate(timeout=20)
        assert process.returncode == 2
        assert complaints == "mask_adapter_node: size_from is 'guess'; it must be camera_info or image.\n"


def test_it_does_not_wait_for_torch() -> None:
    code = "import sys, diffusion_perception_ros.ros.mask_adapter; sys.exit('torch' in sys.modules)"
    path = [str(ROOT), *sys.path]
    subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {path}; {code}"], check=True)
