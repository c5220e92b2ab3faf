import time
from enum import IntEnum

from rclpy.time import Time


class ClockType(IntEnum):
    ROS_TIME = 1
    SYSTEM_TIME = 2
    STEADY_TIME = 3


class ClockChange(IntEnum):
    ROS_TIME_NO_CHANGE = 1
    ROS_TIME_ACTIVATED = 2
    ROS_TIME_DEACTIVATED = 3
    SYSTEM_TIME_NO_CHANGE = 4


class JumpThreshold:
    def __init__(self, *, min_forward, min_backward, on_clock_change=True):
        if min_forward is not None and min_forward.nanoseconds <= 0:
            raise ValueError("min_forward must be a positive non-zero duration")
        if min_backward is not None and min_backward.nanoseconds >= 0:
            raise ValueError("min_backward must be a negative non-zero duration")
        self.min_forward, self.min_backward, self.on_clock_change = min_forward, min_backward, on_clock_change

    def exceeded(self, delta, clock_change):
        if clock_change != ClockChange.ROS_TIME_NO_CHANGE:
            return self.on_clock_change
        if self.min_backward is not None and delta <= self.min_backward.nanoseconds:
            return True
        return self.min_forward is not None and delta >= self.min_forward.nanoseconds


class TimeJump:
    def __init__(self, clock_change, delta):
        self.clock_change, self.delta = clock_change, delta


class JumpHandle:
    def __init__(self, clock, threshold, callback):
        self.clock, self.threshold, self.callback = clock, threshold, callback
        clock.handles.append(self)

    def unregister(self):
        if self in self.clock.handles:
            self.clock.handles.remove(self)


class Clock:
    def __init__(self, *, clock_type=ClockType.SYSTEM_TIME):
        self.clock_type = clock_type
        self.handles = []
        self.override = None  # nanoseconds, while simulated time is active

    def now(self):
        if self.override is not None:
            return Time(nanoseconds=self.override)
        return Time(nanoseconds=time.monotonic_ns() if self.clock_type == ClockType.STEADY_TIME else time.time_ns())

    def create_jump_callback(self, threshold, *, pre_callback=None, post_callback=None):
        return JumpHandle(self, threshold, post_callback)

    def set_override(self, nanoseconds):
        before, self.override = self.override, nanoseconds
        change = ClockChange.ROS_TIME_NO_CHANGE
        if (before is None) != (nanoseconds is None):
            change = ClockChange.ROS_TIME_ACTIVATED if before is None else ClockChange.ROS_TIME_DEACTIVATED
        delta = (nanoseconds or 0) - (before or 0)
        for handle in list(self.handles):
            if handle.threshold.exceeded(delta, change):
                handle.callback(TimeJump(change, delta))
