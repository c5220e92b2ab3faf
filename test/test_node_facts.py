"""What the node has to live with: rclpy's inconveniences, which its stand-in must have, too."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import message_filters
import numpy as np
import pytest
import rclpy
from diffusion_perception_ros.msg import OpticalFlow, PerceptionStatus
from node_rig import IMAGE_TOPIC, SECOND, START, Rig, check_fields, image_message, picture
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image, RegionOfInterest

MakeRig = Callable[..., Rig]


@cache
def has_assertions(module: str, kind: str, field: str) -> bool:
    """Whether messages were compiled with assertions, as colcon does by default: then wrong types end the process."""
    if "rclpy_stand_in" in str(rclpy.__file__):
        return False
    program = (
        f"import numpy; from {module} import {kind}; from rclpy.serialization import serialize_message; "
        f"serialize_message({kind}({field}=numpy.bool_(True)))"
    )
    # Unchecked, or Python would refuse the value before the compiled code sees it.
    path = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": path, "ROS_PYTHON_CHECK_FIELDS": ""}
    return (
        subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False).returncode
        < 0
    )


def sent(rig: Rig, message: Any) -> Any:
    received = rig.subscribe("/fact", type(message))
    rig.publish("/fact", message)
    rig.wait(lambda: received)
    return received[0]


@pytest.mark.parametrize(
    ("kind", "field", "value", "arrives"),
    [
        (OpticalFlow, "max_displacement_x", 3.5, 3.5),
        (OpticalFlow, "max_displacement_x", np.float32(3.5), 0.0),
        (OpticalFlow, "max_displacement_x", 3, 0.0),
        (RegionOfInterest, "do_rectify", True, True),
        (RegionOfInterest, "do_rectify", np.bool_(True), False),
    ],
)
def test_fields_of_the_wrong_type_are_corrupted_in_silence(
    rig: MakeRig, monkeypatch: pytest.MonkeyPatch, kind: Any, field: str, value: Any, arrives: Any
) -> None:
    check_fields(monkeypatch, False)
    package = kind.__module__.partition(".")[0]
    if arrives != value and has_assertions(f"{package}.msg", kind.__name__, field):
        pytest.skip(f"the messages of {package} were compiled with assertions")
    assert getattr(sent(rig(), kind(**{field: value})), field) == arrives


def test_numpy_integers_raise_when_they_are_published(rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    check_fields(monkeypatch, False)
    if has_assertions("sensor_msgs.msg", "RegionOfInterest", "do_rectify"):
        pytest.skip("the messages of sensor_msgs were compiled with assertions")
    with pytest.raises(SystemError):
        sent(rig(), Image(height=np.uint32(3)))


@pytest.mark.parametrize("pixels", [b"", b"\1\2\3"])
def test_any_buffer_behind_the_property_is_sent(rig: MakeRig, pixels: bytes) -> None:
    """The property would copy it, element by element, and with fields checked refuse it."""
    message = Image()
    message._data = memoryview(pixels)
    assert bytes(sent(rig(), message).data) == pixels


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [(OpticalFlow, "max_displacement_x", np.float32(1)), (PerceptionStatus, "warm_started", np.bool_(True))],
)
def test_checked_fields_raise_at_once(monkeypatch: pytest.MonkeyPatch, kind: Any, field: str, value: Any) -> None:
    check_fields(monkeypatch, True)
    with pytest.raises(AssertionError):
        kind(**{field: value})


def test_best_effort_publishers_and_reliable_subscriptions_do_not_meet(rig: MakeRig) -> None:
    r = rig()
    reliable = r.tester.create_subscription(Image, "/fact", lambda _: None, 1)
    publisher = r.tester.create_publisher(
        Image, "/fact", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    )
    assert publisher.get_subscription_count() == reliable.get_publisher_count() == 0


def test_an_override_is_written_into_the_profile_that_was_passed(rig: MakeRig) -> None:
    rig()
    name = "qos_overrides./fact.publisher.depth"
    node = rclpy.create_node("fact", parameter_overrides=[Parameter(name, value=7)])
    profile = QoSProfile(depth=1)
    options = QoSOverridingOptions.with_default_policies()
    node.create_publisher(Image, "/fact", profile, qos_overriding_options=options)
    assert profile.depth == 7
    node.destroy_node()


def test_an_integer_for_a_double_raises_out_of_the_declaration(rig: MakeRig) -> None:
    rig()
    node = rclpy.create_node("fact", parameter_overrides=[Parameter("rate", value=10)])
    with pytest.raises(InvalidParameterTypeException):
        node.declare_parameter("rate", 1.0)
    node.destroy_node()


def test_an_exception_in_a_transition_is_swallowed(rig: MakeRig) -> None:
    rig()

    class Broken(LifecycleNode):  # type: ignore[misc]
        def on_configure(self, state: Any) -> Any:
            raise ValueError

    node = Broken("broken")
    assert node.trigger_configure() == TransitionCallbackReturn.ERROR
    node.destroy_node()


def filtered(synchronizer: Any, inputs: list[Any], stamp: int) -> None:
    for each in inputs:
        each.signalMessage(image_message(stamp, picture(1)))


def test_message_filters_keep_their_lock_after_an_exception() -> None:
    inputs = [message_filters.SimpleFilter(), message_filters.SimpleFilter()]
    synchronizer = message_filters.TimeSynchronizer(inputs, 5)
    synchronizer.registerCallback(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        filtered(synchronizer, inputs, START)
    assert not synchronizer.lock.acquire(timeout=0.01)


def test_message_filters_match_nothing_more_after_stamps_have_jumped_back() -> None:
    inputs = [message_filters.SimpleFilter(), message_filters.SimpleFilter()]
    synchronizer = message_filters.TimeSynchronizer(inputs, 2)
    joined: list[Any] = []
    synchronizer.registerCallback(lambda *messages: joined.append(messages))
    filtered(synchronizer, inputs, START)
    assert len(joined) == 1
    for i in (5, 6):
        inputs[0].signalMessage(image_message(START + i * SECOND, picture(1)))
    filtered(synchronizer, inputs, START)
    assert len(joined) == 1


def test_a_remap_does_not_move_the_compressed_topic_by_itself(rig: MakeRig) -> None:
    r = rig()
    assert r.node.resolve_topic_name("image") == IMAGE_TOPIC
    assert r.node.resolve_topic_name("image/compressed") == "/image/compressed"
