"""A node under test, next to a node that plays its camera and its subscribers."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rcl_interfaces.msg import Log
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from replay_bags import asked, given
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.predictions import AmodalInstance, PerceptionOutput
from diffusion_perception_ros.request import Request
from diffusion_perception_ros.ros.model import Model
from diffusion_perception_ros.ros.node import PerceptionNode

SECOND = 10**9
START = 1_700_000_000 * SECOND
PERIOD = SECOND // 10
IMAGE_TOPIC = "/camera/image_raw"
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class BrightnessPipeline(PerceptionPipeline):
    """Answers that are easy to predict: depth is the red channel, flow the change of brightness."""

    def __init__(self, delay: float = 0.0) -> None:
        tiny = PerceptionPipeline.random(32)
        super().__init__(tiny.transformer, tiny.codec, tiny.scheduler_config, tiny.metadata)
        self.delay = delay
        self.calls: list[dict[str, Any]] = []
        self.hold: threading.Event | None = None
        self.error: Exception | None = None

    def batch(self, requests: Sequence[Request], memory: Any = None, refine: Any = None) -> list[PerceptionOutput]:
        return [self(*given(request), **asked(request)) for request in requests]

    def __call__(
        self, image: NDArray[np.uint8], next_image: Any = None, visible_masks: Any = None, **options: Any
    ) -> PerceptionOutput:
        self.calls.append({"image": image, "next_image": next_image, "visible_masks": visible_masks, **options})
        time.sleep(self.delay)
        block: Any = self.transformer.blocks[0]
        if self.hold is not None:
            while not self.hold.is_set():
                block.attn.qkv(self.transformer.pos_embed)  # where a prediction can be given up
                time.sleep(0.005)
        if self.error is not None:
            raise self.error
        fields: dict[str, Any] = {}
        if "depth" in options["tasks"]:
            fields["depth_relative"] = image[..., 0].astype(np.float32) / 255
            if options["ensemble_size"] >= 3:
                fields["depth_uncertainty"] = fields["depth_relative"] / 2
            if self.metadata.tasks["depth"].kind == "log_metric":
                fields["depth_metric"] = 10 * fields["depth_relative"]
        if "flow" in options["tasks"]:
            change = np.float32(next_image.mean()) - np.float32(image.mean())
            fields["flow"] = np.full((*image.shape[:2], 2), change, np.float32)
            fields["max_displacement"] = (75.0, 75.0)
        if "amodal" in options["tasks"]:
            fields["amodal"] = [
                AmodalInstance(int(label), visible_masks == label, np.logical_or.accumulate(visible_masks == label))
                for label in np.unique(visible_masks)[1:]
            ]
        return PerceptionOutput(**fields, stage_ms={"encode": 1.0, "denoise": 2.0, "decode": 3.0})


class Rig:
    """The node, spun in a thread of its own, and a tester node, spun in another."""

    def __init__(self, *arguments: str, pipe: PerceptionPipeline | None = None, remap: bool = True) -> None:
        self.pipe = pipe if pipe is not None else BrightnessPipeline()
        if remap:
            arguments = ("-r", f"image:={IMAGE_TOPIC}", *arguments)
        self.node: Any = PerceptionNode(cli_args=["--ros-args", *arguments], use_global_arguments=False)
        self.tester = rclpy.create_node("tester", use_global_arguments=False)
        self.received: dict[str, list[Any]] = {}
        self.logs: list[str] = []
        every = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.tester.create_subscription(Log, "/rosout", lambda log: self.logs.append(log.msg), every)
        self._publishers: dict[str, Any] = {}
        self._executors = [SingleThreadedExecutor(), SingleThreadedExecutor()]
        for executor, node in zip(self._executors, (self.node, self.tester), strict=True):
            executor.add_node(node)
        self._threads = [threading.Thread(target=_spin, args=(executor,)) for executor in self._executors]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        for executor in self._executors:
            executor.shutdown()
        for thread in self._threads:
            thread.join()
        for node in (self.node, self.tester):
            node.destroy_node()
        # rclpy's lifecycle nodes leave their state machine to Python, and with it the publisher of their log, which a
        # later node of that name would share, and lose in the middle.
        del self.node, node
        gc.collect()

    def up(self) -> Rig:
        """Configure and activate."""
        assert self.node.trigger_configure() == SUCCESS, self.logs
        assert self.node.trigger_activate() == SUCCESS, self.logs
        return self

    def subscribe(self, topic: str, kind: Any) -> list[Any]:
        """What arrives on a topic, from now on; returns once the publisher knows of it."""
        messages = self.received.setdefault(topic, [])
        qos = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
        subscription = self.tester.create_subscription(kind, topic, messages.append, qos)
        self.wait(lambda: self.tester.count_publishers(topic) == 0 or subscription.get_publisher_count() > 0)
        return messages

    def publish(self, topic: str, message: Any, is_heard: bool = True, **qos: Any) -> None:
        if topic not in self._publishers:
            profile = QoSProfile(depth=10, **qos)
            self._publishers[topic] = self.tester.create_publisher(type(message), topic, profile)
            heard = is_heard and self.tester.count_subscribers(topic) > 0
            self.wait(lambda: not heard or self._publishers[topic].get_subscription_count() > 0)
        self._publishers[topic].publish(message)

    def image(self, stamp: int, pixels: NDArray[Any] | None = None, topic: str = IMAGE_TOPIC, **changes: Any) -> None:
        """Publish a frame, and wait until the node has taken it."""
        before = self._received
        self.publish(topic, image_message(stamp, picture(stamp) if pixels is None else pixels, **changes))
        if topic == IMAGE_TOPIC:
            self.wait(lambda: self._received > before)

    @property
    def _received(self) -> int:
        return sum(camera.inputs.intake.received for camera in self.node._cameras)

    def wait(self, condition: Callable[[], Any], timeout: float = 60.0) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"it did not happen in {timeout} s; log: {self.logs}"
            time.sleep(0.002)

    def arrived(self, messages: list[Any], count: int) -> None:
        """Wait for the messages of a topic."""
        self.wait(lambda: len(messages) == count)

    def set(self, **values: Any) -> tuple[bool, str]:
        """Set parameters, all at once; a double underscore stands for a dot."""
        parameters = [Parameter(name.replace("__", "."), value=value) for name, value in values.items()]
        result = self.node.set_parameters_atomically(parameters)
        return result.successful, result.reason

    @property
    def drops(self) -> dict[str, int]:
        return dict(self.node._cameras[0].inputs.intake.drops)

    def diagnostics(self) -> dict[str, Any]:
        """The next report, by the last part of each status' name."""
        return {status.name.rpartition(": ")[2]: status for status in self.report()}

    def report(self) -> list[Any]:
        """The statuses of the next report."""
        messages = self.received.get("/diagnostics") or self.subscribe("/diagnostics", DiagnosticArray)
        seen = len(messages)
        self.wait(lambda: len(messages) > seen)
        return list(messages[-1].status)


def _spin(executor: Any) -> None:
    with suppress(ExternalShutdownException):
        executor.spin()


def check_fields(monkeypatch: Any, wanted: bool) -> None:
    """Have messages check what is assigned to them, or not, as ROS_PYTHON_CHECK_FIELDS=1 does from their import on."""
    for module in list(sys.modules.values()):
        if "ros_python_check_fields" in vars(module):
            monkeypatch.setattr(module, "ros_python_check_fields", "1" if wanted else "")


def picture(seed: int, height: int = 6, width: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(1, 255, (height, width, 3), np.uint8)


def stamped(message: Any, stamp: int, frame_id: str = "camera_optical") -> Any:
    message.header.stamp.sec, message.header.stamp.nanosec = stamp // SECOND, stamp % SECOND
    message.header.frame_id = frame_id
    return message


def image_message(stamp: int, pixels: NDArray[Any], encoding: str = "rgb8", **changes: Any) -> Any:
    height, width = pixels.shape[:2]
    step = pixels.nbytes // height
    message = Image(**{"height": height, "width": width, "encoding": encoding, "step": step, **changes})
    message.data.frombytes(np.ascontiguousarray(pixels).tobytes())
    return stamped(message, stamp)


def compressed_message(stamp: int, data: bytes) -> Any:
    message = CompressedImage(format="png")
    message.data.frombytes(data)
    return stamped(message, stamp)


def camera_info(stamp: int, height: int = 6, width: int = 8, distortion: float = 0.0) -> Any:
    message = CameraInfo(height=height, width=width, distortion_model="plumb_bob", d=[distortion] * 5)
    message.k = np.array([100.0, 0, 4, 0, 100, 3, 0, 0, 1])
    return stamped(message, stamp)


def stamps(messages: list[Any]) -> list[int]:
    return [message.header.stamp.sec * SECOND + message.header.stamp.nanosec for message in messages]


def floats(message: Any) -> NDArray[np.float32]:
    channels = int(message.encoding[-1])
    values = np.frombuffer(bytes(message.data), np.float32)
    return values.reshape(message.height, message.width, channels).squeeze()


@contextmanager
def ros() -> Iterator[None]:
    rclpy.init(args=[])
    try:
        yield
    finally:
        rclpy.try_shutdown()


@contextmanager
def elsewhere() -> Iterator[Any]:
    """A node as in another process: within one, Fast DDS knows one type of each topic alone."""
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node("elsewhere", context=context)
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


@contextmanager
def rigs(monkeypatch: Any) -> Iterator[Callable[..., Rig]]:
    """Makes rigs, whose model is their pipeline."""
    made: list[Rig] = []
    original = Model.load

    def make(*arguments: str, load: bool = False, **options: Any) -> Rig:
        rig = Rig(*arguments, **options)
        made.append(rig)
        monkeypatch.setattr(Model, "load", original if load else lambda settings: Model(rig.pipe))
        return rig

    with ros():
        try:
            yield make
        finally:
            for rig in made:
                rig.close()
