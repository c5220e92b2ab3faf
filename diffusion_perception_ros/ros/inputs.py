"""The subscribed topics: names, quality of service, and whether anything arrives."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSCompatibility, qos_check_compatible
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from diffusion_perception_ros.conversions import image_from_compressed_message, image_from_message
from diffusion_perception_ros.frames.intake import Intake, LiveFrame
from diffusion_perception_ros.frames.mailbox import Mailbox
from diffusion_perception_ros.ros.qos import input_qos, overridable
from diffusion_perception_ros.ros.settings import NodeSettings
from diffusion_perception_ros.ros.synchronizer import Synchronizer


class Source(NamedTuple):
    """Something to subscribe to: its name in the interface, such as ``image``, the resolved topic, the class."""

    name: str
    topic: str
    kind: Any


def sources(node: LifecycleNode, prefix: str, settings: NodeSettings, tasks: Collection[str]) -> list[Source]:
    """The topics that an active node subscribes to for one camera, ``image`` first.

    Args:
        node: The node, whose remappings count.
        prefix: In front of the topics' names.
        settings: The transport, and whether second frames have a topic of their own.
        tasks: Those that may be asked for.
    """

    def resolve(name: str, only_expand: bool = False) -> str:
        topic: str = node.resolve_topic_name(prefix + name, only_expand=only_expand)
        return topic

    kind, suffix = (CompressedImage, "/compressed") if settings.image_transport == "compressed" else (Image, "")
    # The base name is what gets remapped; a transport's topic does not follow by itself.
    image, camera_info = resolve("image"), resolve("camera_info")
    if camera_info == resolve("camera_info", only_expand=True):  # not remapped: the image topic's sibling
        camera_info = image.rpartition("/")[0] + "/camera_info"
    found = [Source("image", image + suffix, kind)]
    if settings.pairing == "topics" and "flow" in tasks:
        found.append(Source("image_next", resolve("image_next") + suffix, kind))
    found.append(Source("camera_info", camera_info, CameraInfo))
    if "amodal" in tasks:
        found.append(Source("visible_masks", resolve("visible_masks"), Image))
    if "depth" in tasks:
        found.append(Source("depth_reference", resolve("depth_reference"), Image))
    return found


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
        self._synchronizer: Synchronizer | None = None
        self.intake = Intake(
            mailbox,
            image_from_compressed_message if settings.image_transport == "compressed" else image_from_message,
            history=settings.history if "amodal" in tasks else 0,
            pair_consecutive=settings.pairing == "consecutive",
            on_restart=self._restarted,
        )
        if settings.pairing == "topics" and "flow" in tasks:
            self._synchronizer = Synchronizer(
                settings.sync_queue_size, settings.sync_slop, self.intake.add_pair, on_error
            )
        callbacks: dict[str, Callable[[Any], Any]] = {
            "image": self._on_image,
            "image_next": self._on_next,
            "camera_info": self._on_camera_info,
            "visible_masks": self.intake.add_labels,
            "depth_reference": self.intake.add_reference,
        }
        self.all: list[Input] = []
        try:
            for source in sources(node, prefix, settings, tasks):
                self._subscribe(source, callbacks[source.name])
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

    def _subscribe(self, source: Source, callback: Callable[[Any], Any]) -> None:
        name, topic, kind = source
        entry = Input(name, topic, _type_name(kind), None, 0, time.monotonic())

        def receive(message: Any) -> None:
            entry.received += 1
            entry.last = time.monotonic()
            try:
                callback(message)
            except Exception as error:  # an exception here would end the executor
                self._on_error(error)

        entry.subscription = self._node.create_subscription(
            kind, topic, receive, input_qos(), qos_overriding_options=overridable()
        )
        self.all.append(entry)

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
        return sentence + (
            f"it has {count} and the quality of service fits, but no message arrives. Large ones get lost where "
            "sockets or shared memory have small buffers; see docs/install.md."
        )


def _type_name(kind: Any) -> str:
    return f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"
