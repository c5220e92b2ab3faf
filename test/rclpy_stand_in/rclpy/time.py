from builtin_interfaces.msg import Time as TimeMessage


class Time:
    def __init__(self, *, seconds=0, nanoseconds=0):
        if seconds < 0 or nanoseconds < 0:
            raise ValueError("Nanoseconds value must not be negative")
        self.nanoseconds = int(seconds * 1e9) + int(nanoseconds)

    def to_msg(self):
        return TimeMessage(sec=self.nanoseconds // 10**9, nanosec=self.nanoseconds % 10**9)

    @classmethod
    def from_msg(cls, message):
        if not isinstance(message, TimeMessage):
            raise TypeError("Must pass a builtin_interfaces.msg.Time object")
        return cls(seconds=message.sec, nanoseconds=message.nanosec)
