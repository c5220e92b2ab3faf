"""The subscribed topics: names, quality of service, and whether anything arrives."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from diffusion_perception_ros.conversions import image_from_compressed_message, image_from_message
from diffusion_perception_ros.frames.intake import Intake, LiveFrame
from diffusion_perception_ros.frames.mailbox import Mailbox
from diffusion_perception_ros.ros.parameters import NodeSettings
from diffusion_perception_ros.ros.synchronizer import Synchronizer

_DEPTH = 5  # images; a burst is absorbed, a backlog is not


def input_qos() -> QoSProfile:
    """Best effort, as sensors publish; a profile for each subscription, since overrides are written into it."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=_DEPTH,
        reliability=ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE,
    )


@dataclass
class Input:
    """One subscription.

    Attributes:
        name: Its name in the interface, such as ``image``.
        topic: The resolved name.
        kind: The message type's name.
        subscription: rclpy's.
        received: Number of messages.
        last: When the last one arrived (or when the waiting began), on time.monotonic's clock.
    """

    name: str
    topic: str
    kind: str
    subscription: Any
    received: int
    last: float


class Inputs:
    """The subscriptions of one camera of an active node.

    Args:
        node: The node.
        prefix: In front of the topics' names.
        settings: Which topics and how they are joined.
        mailbox: Where work is put.
        tasks: Those that may be asked for.
        on_error: Called with what went wrong in a callback, so that one bad message cannot stop the node.
        warn: Takes the kind of a warning and its sentence.
        on_restart: Called when time began anew.
    """

    def __init__(
        self,
        node: LifecycleNode,
        prefix: str,
        settings: NodeSettings,
        mailbox: Mailbox,
        tasks: tuple[str, ...],
        on_error: Callable[[Exception], None],
        warn: Callable[[str, str], None],
        on_restart: Callable[[], None],
    ) -> None:
        self._node, self._prefix = node, prefix
        self._on_error, self._warn, self._on_restart = on_error, warn, on_restart
        self._warned_of_distortion = False
        compressed = settings.image_transport == "compressed"
        joined = settings.pairing == "topics" and "flow" in tasks
        self._synchronizer: Synchronizer | None = None
        self.intake = Intake(
            mailbox,
            image_from_compressed_message if compressed else image_from_message,
            history=settings.history if "amodal" in tasks else 0,
            pair_consecutive=settings.pairing == "consecutive",
            on_restart=self._restarted,
        )
        if joined:
            self._synchronizer = Synchronizer(
                settings.sync_queue_size, settings.sync_slop, self.intake.add_pair, on_error
            )
        self.all: list[Input] = []
        kind, suffix = (CompressedImage, "/compressed") if compressed else (Image, "")
        # The base name is what gets remapped; a transport's topic does not follow by itself.
        base = self._resolve("image")
        try:
            self._subscribe("image", base + suffix, kind, self._on_image)
            if joined:
                self._subscribe("image_next", self._resolve("image_next") + suffix, kind, self._on_next)
            self._subscribe("camera_info", self._camera_info_topic(base), CameraInfo, self._on_camera_info)
            if "amodal" in tasks:
                self._subscribe("visible_masks", self._resolve("visible_masks"), Image, self.intake.add_labels)
            if "depth" in tasks:
                self._subscribe("depth_reference", self._resolve("depth_reference"), Image, self.intake.add_reference)
        except Exception:
            self.destroy()
            raise

    def destroy(self) -> None:
        """Stop listening."""
        for each in self.all:
            self._node.destroy_subscription(each.subscription)
        self.all = []

    def missing(self, timeout: float, needed: Collection[str]) -> list[str]:
        """A sentence for each of the needed inputs that has been without data for longer than ``timeout`` seconds."""
        now = time.monotonic()
        silent = [each for each in self.all if each.name in needed and now - each.last > timeout]
        return [self._diagnose(each, now - each.last) for each in silent]

    def _subscribe(self, name: str, topic: str, kind: Any, callback: Callable[[Any], Any], needed: bool = True) -> None:
        source = Input(name, topic, _type_name(kind), None, 0, time.monotonic())

        def receive(message: Any) -> None:
            source.received += 1
            source.last = time.monotonic()
            try:
                callback(message)
            except Exception as error:  # an exception here would end the executor
                self._on_error(error)

        source.subscription = self._node.create_subscription(
            kind, topic, receive, input_qos(), qos_overriding_options=QoSOverridingOptions.with_default_policies()
        )
        self.all.append(source)

    def _on_image(self, message: Any) -> None:
        self._join(0, message, self.intake.add_image(message))

    def _on_next(self, message: Any) -> None:
        self._join(1, message, self.intake.add_next_image(message))

    def _on_camera_info(self, message: Any) -> None:
        self.intake.add_camera_info(message)
        image = self.all[0].topic
        if not self._warned_of_distortion and any(message.d) and "rect" not in image:
            self._warned_of_distortion = True
            self._warn(
                "distortion",
                f"the camera of {image} has lens distortion; metric depth and its points are right only for rectified "
                "images, so remap image to the rectified topic.",
            )

    def _join(self, stream: int, message: Any, frame: LiveFrame | None) -> None:
        if self._synchronizer is not None and frame is not None:
            self._synchronizer.add(stream, message, frame)

    def _restarted(self) -> None:
        if self._synchronizer is not None:
            self._synchronizer.restart()
        self._on_restart()

    def _camera_info_topic(self, image_topic: str) -> str:
        """As remapped, else the image topic's sibling."""
        topic = self._resolve("camera_info")
        if topic != self._resolve("camera_info", only_expand=True):
            return topic
        return image_topic.rpartition("/")[0] + "/camera_info"

    def _resolve(self, name: str, **options: bool) -> str:
        topic: str = self._node.resolve_topic_name(self._prefix + name, **options)
        return topic

    def _diagnose(self, source: Input, silence: float) -> str:
        """Why nothing arrives, as far as it can be seen from here."""
        sentence = f"no data on {source.topic} ({source.name}) for {silence:.0f} s: "
        publishers = self._node.get_publishers_info_by_topic(source.topic)
        if not publishers:
            return sentence + f"nobody publishes it; remap {self._prefix}{source.name} or start its publisher."
        types = sorted({publisher.topic_type for publisher in publishers} - {source.kind})
        if types:
            return sentence + f"it is published as {', '.join(types)}, but {source.kind} is expected."
        wanted = source.subscription.qos_profile
        for publisher in publishers:
            compatibility, reason = qos_check_compatible(publisher.qos_profile, wanted)
            if compatibility == QoSCompatibility.ERROR:
                reason = reason.strip(" ;\n")
                return sentence + f"the quality of service of {publisher.node_name} does not fit ({reason})."
        count = f"{len(publishers)} publisher{'s' if len(publishers) > 1 else ''}"
        return sentence + f"it has {count} and the quality of service fits, but no message arrives."


def _type_name(kind: Any) -> str:
    return f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"
