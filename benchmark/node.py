"""What the node costs beside the network: taking a message, publishing results, and memory over many frames.

Runs the node and a camera in this process, on rclpy (the stand-in of the tests where ROS 2 is not installed, whose
figures say little about DDS), with a tiny network.

    python benchmark/node.py --size 320x240 --frames 10000
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import diffusion_perception_ros
from diffusion_perception_ros.conversions.fields import header_fields
from diffusion_perception_ros.conversions.results import IMAGE, OPTICAL_FLOW, flow_results, image_results
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.ros.messages import message_class

_ROOT = Path(__file__).resolve().parent.parent
_OUTPUT_SIZE = (480, 640)
TOPICS = {"depth/relative": IMAGE, "flow": OPTICAL_FLOW}
# Raw: what a subscriber makes of a message is none of the publisher's cost.
LISTENER = """
import rclpy
from diffusion_perception_ros.msg import OpticalFlow
from sensor_msgs.msg import Image

rclpy.init()
node = rclpy.create_node("listener")
for topic, kind in {"depth/relative": Image, "flow": OpticalFlow}.items():
    node.create_subscription(kind, topic, lambda _: None, 1, raw=True)
rclpy.spin(node)
"""


def resident_megabytes() -> float:
    """Of this process, as the kernel counts it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


class Camera:
    """A node that publishes frames and subscribes to results, and the perception node beside it."""

    def __init__(self, width: int, height: int, topics: dict[str, Any]) -> None:
        import rclpy
        from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
        from sensor_msgs.msg import Image

        from diffusion_perception_ros.ros.node import PerceptionNode

        rclpy.init(args=[])
        self.node: Any = PerceptionNode(cli_args=["--ros-args", "-p", "device:=cpu"])
        self.peer = rclpy.create_node("camera")
        self.results = 0
        self._answered: Any = None
        for topic, kind in topics.items():
            self.peer.create_subscription(kind, topic, self._count, 10)
        self._publisher = self.peer.create_publisher(Image, "image", 1)
        self._message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
        self._message.data.frombytes(np.random.default_rng(0).integers(0, 256, height * width * 3, np.uint8).tobytes())

        def spin(executor: Any) -> None:
            with suppress(ExternalShutdownException):
                executor.spin()

        self._executors = [SingleThreadedExecutor(), SingleThreadedExecutor()]
        self._threads = [threading.Thread(target=spin, args=(executor,), daemon=True) for executor in self._executors]
        for executor, node, thread in zip(self._executors, (self.node, self.peer), self._threads, strict=True):
            executor.add_node(node)
            thread.start()
        self.node.trigger_configure()
        self.node.trigger_activate()
        while not (self._publisher.get_subscription_count() and all(map(self.node._outputs[""].is_wanted, topics))):
            time.sleep(0.01)
        self._stamp = time.time_ns()

    def _count(self, message: Any) -> None:
        self.results += 1
        self._answered = message.header.stamp

    def publish(self) -> None:
        """The next frame, a thirtieth of a second after the one before by its stamp.

        Waits for the result, or a second: one that got lost on the way is missing in ``results``.
        """
        self._stamp += 10**9 // 30
        self._message.header.stamp.sec, self._message.header.stamp.nanosec = divmod(self._stamp, 10**9)
        self._publisher.publish(self._message)
        end = time.monotonic() + 1
        while self._answered != self._message.header.stamp and time.monotonic() < end:
            time.sleep(0.0002)

    def close(self) -> None:
        """End both nodes."""
        import rclpy

        for executor, thread in zip(self._executors, self._threads, strict=True):
            executor.shutdown()
            thread.join()
        self.node.destroy_node()
        rclpy.shutdown()


def measure_taking(camera: Camera, count: int) -> list[float]:
    """Milliseconds from message to mailbox, with the worker idle."""
    intake = camera.node._cameras[0].inputs.intake
    times = []
    for _ in range(count):
        camera._stamp += 10**9 // 30
        camera._message.header.stamp.sec, camera._message.header.stamp.nanosec = divmod(camera._stamp, 10**9)
        began = time.perf_counter()
        intake.add_image(camera._message)
        times.append(1e3 * (time.perf_counter() - began))
    return times


def measure_publishing(count: int, listeners: int) -> NDArray[np.float64]:
    """What publishing depth and flow of 640x480 takes.

    Args:
        count: Results, at 30 Hz.
        listeners: Processes that subscribe to both topics; without, a thread of this process does.

    Returns:
        (count, 2, 2) milliseconds: conversion and the middleware's calls, each on the clock and of CPU time. The latter
        says more on a busy machine.
    """
    camera = Camera(32, 24, {} if listeners else {topic: message_class(kind) for topic, kind in TOPICS.items()})
    processes = [subprocess.Popen([sys.executable, "-c", LISTENER]) for _ in range(listeners)]
    outputs = camera.node._outputs[""]
    publishers = [outputs._publishers[topic] for topic in TOPICS]
    while min(publisher.get_subscription_count() for publisher in publishers) < max(1, listeners):
        time.sleep(0.1)
    marks: list[tuple[float, float]] = []

    def timed(publish: Callable[[Any], None], message: Any) -> None:
        marks.append(_clocks())
        publish(message)
        marks.append(_clocks())

    for publisher in publishers:
        publisher.publish = partial(timed, publisher.publish)
    random = np.random.default_rng(0)
    depth = random.random(_OUTPUT_SIZE, np.float32)
    flow = random.random((*_OUTPUT_SIZE, 2), np.float32)
    output = PerceptionOutput(depth_relative=depth, flow=flow, max_displacement=(75.0, 75.0))
    header = header_fields(1, 2, "camera")
    image = np.zeros((*_OUTPUT_SIZE, 3), np.uint8)
    for _ in range(count):
        marks.append(_clocks())
        outputs.publish(image_results(header, image, output), everything=False)
        outputs.publish(flow_results(header, header["stamp"], output, 20.0), everything=False)
        marks.append(_clocks())
        # As a camera would have it: without a pause the middleware waits until the last message was acknowledged.
        time.sleep(1 / 30)
    for process in processes:
        process.kill()
        process.wait()
    camera.close()
    # By turns: converting, publishing, converting (flow), publishing, and what is left to do after it.
    between = 1e3 * np.diff(np.array(marks).reshape(count, -1, 2), axis=1)
    return np.stack((between[:, ::2].sum(1), between[:, 1::2].sum(1)), axis=1)


def _clocks() -> tuple[float, float]:
    """Seconds on the clock and of this thread's CPU time; nothing costlier, or it would be measured with the rest."""
    return time.perf_counter(), time.thread_time()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="320x240", help="of the camera's frames")
    parser.add_argument("--frames", type=int, default=10_000, help="through the node, for its memory")
    parser.add_argument("--listeners", type=int, default=1, help="processes that subscribe; 0 for a thread of this one")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    if importlib.util.find_spec("rclpy") is None:
        sys.path.append(str(_ROOT / "test" / "rclpy_stand_in"))
        diffusion_perception_ros.__path__.append(str(_ROOT / "test" / "rclpy_stand_in" / "diffusion_perception_ros"))
        print("rclpy: the stand-in of the tests, where nothing is in another process")
        args.listeners = 0
    from sensor_msgs.msg import Image

    # Tiny, so that ten thousand results take minutes and not hours; the memory it needs does not grow with frames.
    PerceptionPipeline.embedded = classmethod(lambda cls, **options: cls.random(32))  # type: ignore
    times = measure_publishing(200, args.listeners)
    times = np.append(times, times.sum(axis=1, keepdims=True), axis=1)
    names = ("converting", "publish of the middleware", "together")
    for name, each in zip(names, times.transpose(1, 0, 2), strict=True):
        (wall, cpu), best = np.median(each, axis=0), each[:, 0].min()
        print(f"depth and flow of 640x480, {name}: {wall:.2f} ms median, {best:.2f} at best, CPU time {cpu:.2f}")

    camera = Camera(width, height, {"depth/relative": Image})
    taking = measure_taking(camera, 500)
    print(f"taking a message of {args.size}: {statistics.median(taking):.3f} ms median")
    warm = args.frames // 10
    start = 0.0
    for i in range(args.frames + warm):
        if i == warm:
            start, camera.results = resident_megabytes(), 0
        camera.publish()
    print(
        f"{args.frames} frames, {camera.results} results: resident memory grew by "
        f"{resident_megabytes() - start:.1f} MB from {start:.0f} MB"
    )
    camera.close()


if __name__ == "__main__":
    main()
