"""Joins messages by their stamps: see README.md for what it has in common with the real one."""

import threading

from rclpy.time import Time


class SimpleFilter:
    def __init__(self):
        self.callbacks = {}

    def registerCallback(self, callback, *arguments):
        self.callbacks[len(self.callbacks)] = (callback, arguments)

    def signalMessage(self, *messages):
        for callback, arguments in self.callbacks.values():
            callback(*messages, *arguments)


class TimeSynchronizer(SimpleFilter):
    def __init__(self, filters, queue_size):
        super().__init__()
        self.queues = [{} for _ in filters]
        for index, each in enumerate(filters):
            each.registerCallback(self.add, self.queues[index], index)
        self.queue_size = queue_size
        self.lock = threading.Lock()

    def add(self, message, queue, index):
        self.lock.acquire()  # and not released by an exception
        self._keep(message, queue)
        for stamp in sorted(set.intersection(*map(set, self.queues))):
            self._signal([stamp] * len(self.queues))
        self.lock.release()

    def _keep(self, message, queue):
        stamp = Time.from_msg(message.header.stamp).nanoseconds
        queue[stamp] = message
        while len(queue) > self.queue_size:
            del queue[min(queue)]
        return stamp

    def _signal(self, stamps):
        self.signalMessage(*(queue[stamp] for queue, stamp in zip(self.queues, stamps, strict=True)))
        for queue, stamp in zip(self.queues, stamps, strict=True):
            del queue[stamp]


class ApproximateTimeSynchronizer(TimeSynchronizer):
    """For two streams."""

    def __init__(self, filters, queue_size, slop):
        super().__init__(filters, queue_size)
        self.slop = slop * 1e9

    def add(self, message, queue, index):
        self.lock.acquire()
        stamp = self._keep(message, queue)
        others = sorted(self.queues[1 - index], key=lambda other: abs(other - stamp))
        if stamp in queue and others and abs(others[0] - stamp) < self.slop:
            self._signal([stamp, others[0]] if index == 0 else [others[0], stamp])
        self.lock.release()
