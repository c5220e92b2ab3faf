"""The launch file on a ROS 2 system: a camera goes in, predictions come out, Ctrl-C ends it.

    launch_test test/launch_perception.py

`colcon test` runs it, too.
"""

from __future__ import annotations

import threading
import time
import unittest
from collections.abc import Callable
from typing import Any

import launch_testing.actions
import launch_testing.asserts
import numpy as np
import pytest
import rclpy
from diffusion_perception_ros.msg import AmodalMaskArray, OpticalFlow
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CameraInfo, Image

HEIGHT, WIDTH, PERIOD = 96, 128, 0.1
PATIENCE = 60.0


@pytest.mark.launch_test
def generate_test_description() -> LaunchDescription:
    """The node in a namespace, with the camera elsewhere."""
    launch_file = PathJoinSubstitution([FindPackageShare("diffusion_perception_ros"), "launch", "perception.launch.py"])
    arguments = {"namespace": "robot", "image_topic": "/camera/image_raw", "device": "cpu"}
    return LaunchDescription(
        [
            IncludeLaunchDescription(launch_file, launch_arguments=arguments.items()),
            launch_testing.actions.ReadyToTest(),
        ]
    )


class TestPerception(unittest.TestCase):
    """Against the running node, from another process."""

    def setUp(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("camera", namespace="camera")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.spinning = threading.Thread(target=self.executor.spin, name="spin")
        self.spinning.start()

    def tearDown(self) -> None:
        self.executor.shutdown()
        self.spinning.join()
        self.node.destroy_node()
        rclpy.try_shutdown()

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        """Until something is so."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"{what}: not within {PATIENCE:.0f} s"
            time.sleep(0.02)

    def receive(self, kind: Any, topic: str) -> list[Any]:
        """A list that fills with the messages of a topic."""
        messages: list[Any] = []
        self.node.create_subscription(kind, topic, messages.append, 10)
        return messages

    def test_a_camera_goes_in_and_predictions_come_out(self) -> None:
        """Brought up by itself, all topics in the namespace, stamps and frames of the camera."""
        depth = self.receive(Image, "/robot/depth/relative")
        flow = self.receive(OpticalFlow, "/robot/flow")
        masks = self.receive(AmodalMaskArray, "/robot/amodal/masks")
        images = self.node.create_publisher(Image, "/camera/image_raw", 5)
        labels = self.node.create_publisher(Image, "/robot/visible_masks", 5)
        infos = self.node.create_publisher(CameraInfo, "/camera/camera_info", 5)
        self.wait_until_active()
        # The node subscribes when it is active, and discovery takes its time.
        for publisher in (images, labels, infos):
            self.wait(publisher.get_subscription_count, publisher.topic_name)
        stamps: list[tuple[int, int]] = []

        def next_frame() -> None:
            image = self.picture(len(stamps))
            stamps.append((image.header.stamp.sec, image.header.stamp.nanosec))
            label = Image(header=image.header, height=HEIGHT, width=WIDTH, encoding="mono8", step=WIDTH)
            label.data.frombytes(self.visible().tobytes())
            infos.publish(CameraInfo(header=image.header, height=HEIGHT, width=WIDTH))
            images.publish(image)
            labels.publish(label)

        timer = self.node.create_timer(PERIOD, next_frame)
        self.wait(lambda: depth and flow and masks, "predictions")
        timer.cancel()
        for message in (depth[-1], flow[-1], masks[-1]):
            assert (message.header.stamp.sec, message.header.stamp.nanosec) in stamps
            assert message.header.frame_id == "camera_optical"
        values = np.frombuffer(depth[-1].data, np.float32)
        assert (depth[-1].height, depth[-1].width, depth[-1].encoding) == (HEIGHT, WIDTH, "32FC1")
        assert ((values >= 0) & (values <= 1)).all()
        first, second = (stamps.index((t.sec, t.nanosec)) for t in (flow[-1].header.stamp, flow[-1].next_stamp))
        assert first < second
        (mask,) = masks[-1].masks
        assert (mask.id, mask.visible_area) == (3, int(self.visible().astype(bool).sum()))

    def wait_until_active(self) -> None:
        """Autostart configures and activates it."""
        client = self.node.create_client(GetState, "/robot/perception/get_state")
        self.wait(client.service_is_ready, "get_state")

        def is_active() -> bool:
            future = client.call_async(GetState.Request())
            self.wait(future.done, "an answer of get_state")
            return bool(future.result().current_state.id == State.PRIMARY_STATE_ACTIVE)

        self.wait(is_active, "active")

    def picture(self, number: int) -> Image:
        """Noise that moves to the right."""
        noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        image = Image(height=HEIGHT, width=WIDTH, encoding="rgb8", step=3 * WIDTH)
        image.header.stamp = self.node.get_clock().now().to_msg()
        image.header.frame_id = "camera_optical"
        image.data.frombytes(np.roll(noise, number, axis=1).tobytes())
        return image

    def visible(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """One object, number 3."""
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        labels[30:60, 40:80] = 3
        return labels


@launch_testing.post_shutdown_test()
class TestShutdown(unittest.TestCase):
    """After the signal that launch sends to all processes."""

    def test_it_ended_by_itself(self, proc_info: Any) -> None:
        """Neither a crash nor a signal of the second kind."""
        launch_testing.asserts.assertExitCodes(proc_info)

    def test_it_ended_in_silence(self, proc_output: Any) -> None:
        """No traceback."""
        for line in proc_output:
            assert b"Traceback" not in line.text
