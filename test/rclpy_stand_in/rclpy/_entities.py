"""Publishers, subscriptions, services, clients and timers."""

import threading
from collections import deque

from rclpy import _graph
from rclpy._messages import deserialize, serialize
from rclpy.exceptions import InvalidHandle
from rclpy.qos import HistoryPolicy


class Publisher:
    def __init__(self, node, msg_type, topic, qos_profile):
        self.node, self.msg_type, self.topic_name, self.qos_profile = node, msg_type, topic, qos_profile
        self._destroyed = False
        _graph.join(self, _graph.publishers)

    def publish(self, message):
        if self._destroyed:
            raise InvalidHandle("cannot use Destroyable because destruction was requested")
        if not isinstance(message, self.msg_type):
            raise TypeError(f"Expected {self.msg_type}, got {type(message)}")
        data = serialize(message)
        with _graph.changed:
            for subscription in _graph.subscriptions:
                if _graph.matches(self, subscription):
                    subscription.deliver(data)
            _graph.changed.notify_all()

    def get_subscription_count(self):
        if self._destroyed:
            raise InvalidHandle("cannot use Destroyable because destruction was requested")
        with _graph.changed:
            return sum(_graph.matches(self, subscription) for subscription in _graph.subscriptions)

    def destroy(self):
        self._destroyed = True
        _graph.leave(self, _graph.publishers)


class Subscription:
    def __init__(self, node, msg_type, topic, callback, qos_profile):
        self.node, self.msg_type, self.topic_name, self.qos_profile = node, msg_type, topic, qos_profile
        self._callback = callback
        self._waiting = deque(maxlen=qos_profile.depth if qos_profile.history != HistoryPolicy.KEEP_ALL else None)
        _graph.join(self, _graph.subscriptions)

    def deliver(self, data):
        self._waiting.append(data)

    def take(self):
        if not self._waiting:
            return None
        data = self._waiting.popleft()
        return lambda: self._callback(deserialize(data, self.msg_type))

    def get_publisher_count(self):
        with _graph.changed:
            return sum(_graph.matches(publisher, self) for publisher in _graph.publishers)

    def destroy(self):
        self._waiting.clear()
        _graph.leave(self, _graph.subscriptions)


class Service:
    def __init__(self, node, srv_type, name, callback):
        self.node, self.srv_type, self.service_name = node, srv_type, name
        self._callback = callback
        self._waiting = deque()
        _graph.join(self, _graph.services)

    def call(self, data, future):
        self._waiting.append((data, future))

    def take(self):
        if not self._waiting:
            return None
        data, future = self._waiting.popleft()

        def work():
            response = self._callback(deserialize(data, self.srv_type.Request), self.srv_type.Response())
            future.set_result(deserialize(serialize(response), self.srv_type.Response))

        return work

    def destroy(self):
        _graph.leave(self, _graph.services)


class Future:
    def __init__(self):
        self._done = threading.Event()
        self._result = None

    def set_result(self, result):
        self._result = result
        self._done.set()

    def done(self):
        return self._done.is_set()

    def result(self):
        return self._result


class Client:
    def __init__(self, srv_type, name):
        self.srv_type, self.service_name = srv_type, name

    def wait_for_service(self, timeout_sec=None):
        return self._find() is not None

    def call_async(self, request):
        if not isinstance(request, self.srv_type.Request):
            raise TypeError
        future = Future()
        with _graph.changed:
            self._find().call(serialize(request), future)
            _graph.changed.notify_all()
        return future

    def take(self):
        return None

    def _find(self):
        return next((service for service in _graph.services if service.service_name == self.service_name), None)


class Timer:
    def __init__(self, period, callback, clock):
        self.timer_period_ns = int(float(period) * 1e9)
        self._callback, self._clock = callback, clock
        self._due = clock.now().nanoseconds + self.timer_period_ns

    def time_until_next(self):
        """In seconds of real time, as far as that is known."""
        return 0.02 if self._clock.override is not None else (self._due - self._clock.now().nanoseconds) / 1e9

    def take(self):
        now = self._clock.now().nanoseconds
        if now < self._due:
            return None
        self._due = now + self.timer_period_ns
        return self._callback

    def destroy(self):
        pass
