import time

import rclpy
from rclpy import _graph


class ExternalShutdownException(Exception):
    pass


class SingleThreadedExecutor:
    def __init__(self, *, context=None):
        self._context = context or rclpy.get_default_context()
        self._nodes = []
        self._stopped = False

    def add_node(self, node):
        self._nodes.append(node)
        node.executor = self
        _graph.notify()
        return True

    def remove_node(self, node):
        if node in self._nodes:
            self._nodes.remove(node)

    def shutdown(self, timeout_sec=None):
        self._stopped = True
        _graph.notify()
        return True

    def spin(self):
        while self._context.ok() and not self._stopped:
            self.spin_once()

    def spin_once(self, timeout_sec=None):
        end = None if timeout_sec is None else time.monotonic() + timeout_sec
        with _graph.changed:
            while True:
                if self._stopped:
                    return
                if not self._context.ok():
                    raise ExternalShutdownException
                work = self._take()
                if work is not None:
                    break
                wait = self._until_timer()
                if end is not None:
                    if time.monotonic() >= end:
                        return
                    wait = min(wait, end - time.monotonic())
                _graph.changed.wait(max(wait, 0.0))
        work()

    def _take(self):
        for node in list(self._nodes):
            for entity in (*node._timers, *node._subscriptions, *node._services, *node._clients):
                work = entity.take()
                if work is not None:
                    return work
        return None

    def _until_timer(self):
        timers = [timer for node in self._nodes for timer in node._timers]
        return min([0.2, *(timer.time_until_next() for timer in timers)])
