"""Quality of service of the topics, and the parameters that override it."""

from __future__ import annotations

from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from diffusion_perception_ros.errors import InputError

_INPUT_DEPTH = 5  # images; a burst is absorbed, a backlog is not
_OVERRIDABLE: dict[str, Any] = {"history": HistoryPolicy, "depth": int, "reliability": ReliabilityPolicy}


def input_qos() -> QoSProfile:
    """Best effort, as sensors publish; a profile for each subscription, since overrides are written into it."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=_INPUT_DEPTH,
        reliability=ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE,
    )


def output_qos() -> QoSProfile:
    """Reliable, volatile, the newest only; a profile for each publisher, since overrides are written into it."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE,
    )


def overridable() -> QoSOverridingOptions:
    """History, depth and reliability, by parameters that rclpy names after the resolved topic."""
    return QoSOverridingOptions.with_default_policies()


def declare_overrides(node: Node, topic: str, entity: str, profile: QoSProfile) -> None:
    """Declare what overrides the quality of service of a publisher or subscription that is yet to be made.

    rclpy declares these parameters, too, and then uses those that are there already. But it does so only together with
    the subscription, and an unusable value is an exception of whatever kind.

    Args:
        node: The node.
        topic: The resolved topic.
        entity: ``publisher`` or ``subscription``.
        profile: What is overridden.

    Raises:
        InputError: The node was started with an unusable value.
    """
    for policy, kind in _OVERRIDABLE.items():
        name = f"qos_overrides.{topic}.{entity}.{policy}"
        if not node.has_parameter(name):
            default = getattr(profile, policy)
            # Of any type, because rclpy would raise for another one.
            descriptor = ParameterDescriptor(description=f"{policy} of {topic}", read_only=True, dynamic_typing=True)
            node.declare_parameter(name, default if policy == "depth" else default.name.lower(), descriptor)
        _check(name, node.get_parameter(name).value, kind)


def _check(name: str, value: Any, kind: Any) -> None:
    if kind is int:
        is_usable, wanted = type(value) is int and value >= 1, "an integer of 1 or more"
    else:
        known = [each.name.lower() for each in kind if each.name != "UNKNOWN"]
        is_usable, wanted = isinstance(value, str) and value.lower() in known, " or ".join(known)
    if not is_usable:
        raise InputError(f"{name} is {value!r}; it must be {wanted}. It is read when the node starts.")
