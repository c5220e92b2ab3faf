from enum import Enum
from typing import NamedTuple

from rclpy._entities import Publisher
from rclpy.node import Node


class RCLError(RuntimeError):
    pass


class TransitionCallbackReturn(Enum):
    SUCCESS = 0
    FAILURE = 1
    ERROR = 2


class LifecycleState(NamedTuple):
    label: str
    state_id: int


_STATES = {"unconfigured": 1, "inactive": 2, "active": 3, "finalized": 4}
# From where, where to on success, where to on failure.
_TRANSITIONS = {
    "configure": (("unconfigured",), "inactive", "unconfigured"),
    "activate": (("inactive",), "active", "inactive"),
    "deactivate": (("active",), "inactive", "active"),
    "cleanup": (("inactive",), "unconfigured", "inactive"),
    "shutdown": (("unconfigured", "inactive", "active"), "finalized", "finalized"),
}


class LifecyclePublisher(Publisher):
    enabled = False

    def publish(self, message):
        if self.enabled:
            super().publish(message)


class LifecycleNode(Node):
    def __init__(self, name, *, enable_communication_interface=True, **options):
        self._managed_entities = set()
        self._state = "unconfigured"
        super().__init__(name, **options)

    def create_lifecycle_publisher(self, *arguments, **options):
        publisher = self.create_publisher(*arguments, **options, publisher_class=LifecyclePublisher)
        self._managed_entities.add(publisher)
        return publisher

    def destroy_lifecycle_publisher(self, publisher):
        self._managed_entities.discard(publisher)
        return self.destroy_publisher(publisher)

    def on_configure(self, state):
        return TransitionCallbackReturn.SUCCESS

    on_cleanup = on_shutdown = on_error = on_configure

    def on_activate(self, state):
        return self._enable(True)

    def on_deactivate(self, state):
        return self._enable(False)

    def _enable(self, enabled):
        for publisher in self._managed_entities:
            publisher.enabled = enabled
        return TransitionCallbackReturn.SUCCESS

    def trigger_configure(self):
        return self._change_state("configure")

    def trigger_activate(self):
        return self._change_state("activate")

    def trigger_deactivate(self):
        return self._change_state("deactivate")

    def trigger_cleanup(self):
        return self._change_state("cleanup")

    def trigger_shutdown(self):
        return self._change_state("shutdown")

    def _change_state(self, transition):
        sources, success, failure = _TRANSITIONS[transition]
        if self._state not in sources:
            raise RCLError(f"Transition {transition} is not registered for {self._state}")
        state = LifecycleState(self._state, _STATES[self._state])
        result = self._call(getattr(self, f"on_{transition}"), state)
        if result == TransitionCallbackReturn.ERROR:
            good = self._call(self.on_error, state) == TransitionCallbackReturn.SUCCESS
            self._state = "unconfigured" if good else "finalized"
        else:
            self._state = success if result == TransitionCallbackReturn.SUCCESS else failure
        return result

    @staticmethod
    def _call(callback, state):
        try:
            return callback(state)
        except Exception:  # swallowed and not logged, as in rclpy
            return TransitionCallbackReturn.ERROR
