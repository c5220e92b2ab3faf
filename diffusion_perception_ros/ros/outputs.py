"""The published topics; what nobody subscribes to is not even converted."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable
from typing import Any

from rclpy.lifecycle import LifecycleNode

from diffusion_perception_ros.conversions.fields import Fields
from diffusion_perception_ros.conversions.results import METRIC_TOPICS, PERCEPTION_STATUS, TASK_TOPICS, Result
from diffusion_perception_ros.ros.messages import bind, message_class
from diffusion_perception_ros.ros.qos import declare_overrides, output_qos, overridable

STATUS = "status"


class Outputs:
    """The lifecycle publishers of one camera.

    Args:
        node: The node.
        prefix: In front of the topics' names.
        tasks: The tasks whose topics are needed.

    Attributes:
        tasks: Those of them that have topics.
    """

    def __init__(self, node: LifecycleNode, prefix: str, tasks: Collection[str]) -> None:
        self._node = node
        self._topics = {task: topics for task, topics in TASK_TOPICS.items() if task in tasks}
        self.tasks = tuple(self._topics)
        types = {STATUS: PERCEPTION_STATUS}
        for topics in self._topics.values():
            types |= topics
        if "depth" in self._topics:
            types |= METRIC_TOPICS
        self._publishers: dict[str, Any] = {}
        try:
            for topic, kind in types.items():
                declare_overrides(node, node.resolve_topic_name(prefix + topic), "publisher", output_qos())
                self._publishers[topic] = node.create_lifecycle_publisher(
                    message_class(kind), prefix + topic, output_qos(), qos_overriding_options=overridable()
                )
        except Exception:
            self.destroy()
            raise

    def destroy(self) -> None:
        """Take the topics back."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers = {}

    def is_wanted(self, topic: str) -> bool:
        """Whether somebody subscribes to a topic."""
        publisher = self._publishers.get(topic)
        return publisher is not None and publisher.get_subscription_count() > 0

    def wanted_tasks(self, metric: bool) -> tuple[str, ...]:
        """The tasks that somebody subscribes to.

        Args:
            metric: Whether there can be metric depth, so that its topics count.
        """
        topics = {task: list(names) for task, names in self._topics.items()}
        if metric and "depth" in topics:
            topics["depth"] += METRIC_TOPICS
        return tuple(task for task, names in topics.items() if any(map(self.is_wanted, names)))

    def publish(self, results: Iterable[Result], everything: bool) -> None:
        """Publish those results that somebody subscribes to, or everything."""
        for result in results:
            if everything or self.is_wanted(result.topic):
                self.publish_fields(result.topic, result.make())

    def publish_fields(self, topic: str, fields: Fields) -> None:
        """Publish one message, given by its fields."""
        publisher = self._publishers[topic]
        publisher.publish(bind(publisher.msg_type, fields))

    def publish_with_header(self, topic: str, message: Any, header: Fields) -> None:
        """Publish a message that came in, with another header."""
        message = copy.copy(message)
        message.header = bind(type(message.header), header)
        self._publishers[topic].publish(message)
