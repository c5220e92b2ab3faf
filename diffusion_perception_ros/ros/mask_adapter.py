"""MaskAdapter: detections in, label images of visible pixels out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from diffusion_perception_ros.conversions import (
    OVERLAP_RULES,
    Detection,
    ImageError,
    detections_from_vision_message,
    detections_from_yolo_message,
    header_from_message,
    image_fields,
    image_size_from_camera_info,
    label_image,
)
from diffusion_perception_ros.conversions.pixels import check_size
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.ros.messages import bind, message_class
from diffusion_perception_ros.ros.parameters import Declaration
from diffusion_perception_ros.ros.qos import input_qos, output_qos, overridable
from diffusion_perception_ros.ros.throttle import Throttle

DECLARATIONS = (
    Declaration(
        "source",
        "vision_msgs",
        "Type of `detections`: vision_msgs/Detection2DArray, or yolo_msgs/DetectionArray.",
        choices=("vision_msgs", "yolo_msgs"),
        read_only=True,
    ),
    Declaration(
        "size_from",
        "camera_info",
        "Which topic tells the size of the image. `image` costs receiving every image.",
        choices=("camera_info", "image"),
        read_only=True,
    ),
    Declaration(
        "overlap",
        "score",
        "Which of two overlapping detections is in front: the one with the higher score, or with the lower edge "
        "farther down (the nearer one, where objects stand on one floor).",
        choices=OVERLAP_RULES,
        read_only=True,
    ),
    Declaration("min_score", 0.0, "Detections below are left out.", maximum=1, read_only=True),
)

_TYPES = {"vision_msgs": "vision_msgs/msg/Detection2DArray", "yolo_msgs": "yolo_msgs/msg/DetectionArray"}


class MaskAdapter(Node):  # type: ignore[misc]  # rclpy is not there where types are checked
    """Label images with the stamps of the detections, which have to be those of the images.

    Label k is the k-th detection of the message, so that ids of amodal masks lead back to it.

    Args:
        options: Those of rclpy's Node.

    Attributes:
        dropped: Messages and detections that could not be used, by reason.

    Raises:
        InputError: A parameter is unusable, or the package of the messages is not installed.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("mask_adapter", **options)
        self.dropped: Counter[str] = Counter()
        self._throttle = Throttle()
        self._size: tuple[int, int] | None = None
        self._values = {each.name: self._declare(each) for each in DECLARATIONS}
        try:
            kind = message_class(_TYPES[self._values["source"]])
        except ModuleNotFoundError:
            raise InputError(
                f"source is {self._values['source']!r}, but that package is not there; install or build it, or set "
                "source to the other one."
            ) from None
        self._publisher = self.create_publisher(
            message_class("sensor_msgs/msg/Image"),
            "visible_masks",
            output_qos(),
            qos_overriding_options=overridable(),
        )
        if self._values["size_from"] == "image":
            self._size_topic = self._listen("sensor_msgs/msg/Image", "image", self._on_image)
        else:
            self._size_topic = self._listen("sensor_msgs/msg/CameraInfo", "camera_info", self._on_camera_info)
        detections_topic = self._listen(kind, "detections", self._on_detections)
        self.get_logger().info(
            f"{detections_topic} ({kind.__name__}) becomes {self._publisher.topic_name}, sized by {self._size_topic}."
        )

    def _declare(self, declaration: Declaration) -> Any:
        # Typed dynamically, because rclpy raises for the integer 0 where a double is expected.
        descriptor = ParameterDescriptor(
            description=declaration.description, read_only=declaration.read_only, dynamic_typing=True
        )
        return declaration.read(self.declare_parameter(declaration.name, declaration.default, descriptor).value)

    def _listen(self, kind: Any, topic: str, callback: Callable[[Any], None]) -> str:
        """Subscribe; returns the resolved topic."""

        def receive(message: Any) -> None:
            try:
                callback(message)
            except Exception as error:  # an exception here would end the executor
                self._drop(getattr(error, "reason", type(error).__name__), str(error))

        subscription = self.create_subscription(
            message_class(kind) if isinstance(kind, str) else kind,
            topic,
            receive,
            input_qos(),
            qos_overriding_options=overridable(),
        )
        name: str = subscription.topic_name
        return name

    def _on_camera_info(self, message: Any) -> None:
        self._size = image_size_from_camera_info(message)

    def _on_image(self, message: Any) -> None:
        check_size(message.height, message.width)
        self._size = message.height, message.width

    def _on_detections(self, message: Any) -> None:
        if self._publisher.get_subscription_count() == 0:
            return
        if self._size is None:
            raise ImageError("no_size", f"nothing on {self._size_topic} yet, which tells the size of the image")
        header = header_from_message(message)
        if header["stamp"] == {"sec": 0, "nanosec": 0}:
            raise ImageError(
                "no_stamp", "the detections have no stamp, so that no image could be found for their masks"
            )
        detections = self._read(message, self._size)
        unusable = detections.count(None)
        if unusable:
            self._drop("unusable_detection", "a detection's outline is empty or not finite; it is left out", unusable)
        labels = label_image(
            detections, self._size, min_score=self._values["min_score"], overlap=self._values["overlap"]
        )
        encoding = "mono8" if labels.itemsize == 1 else "16UC1"
        self._publisher.publish(bind(message_class("sensor_msgs/msg/Image"), image_fields(header, labels, encoding)))

    def _read(self, message: Any, size: tuple[int, int]) -> list[Detection | None]:
        if self._values["source"] == "yolo_msgs":
            return detections_from_yolo_message(message, size)
        return detections_from_vision_message(message)

    def _drop(self, reason: str, sentence: str, count: int = 1) -> None:
        self.dropped[reason] += count
        if self._throttle.is_due(reason):
            self.get_logger().warning(f"{sentence} ({self.dropped[reason]} so far).")
