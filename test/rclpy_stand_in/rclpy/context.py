import sys

from rclpy import _graph


class Context:
    def __init__(self):
        self._state = "new"
        self.arguments = []

    def init(self, args=None):
        if self._state != "new":
            raise RuntimeError("Context.init() must only be called once")
        self._state = "ok"
        self.arguments = list(sys.argv if args is None else args)

    def ok(self):
        return self._state == "ok"

    def shutdown(self):
        if not self.ok():
            raise RuntimeError("Context must be initialized before it can be shutdown")
        self._state = "shutdown"
        _graph.notify()

    def try_shutdown(self):
        if self.ok():
            self.shutdown()
