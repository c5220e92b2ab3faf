from enum import Enum, IntEnum


class HistoryPolicy(IntEnum):
    SYSTEM_DEFAULT = 0
    KEEP_LAST = 1
    KEEP_ALL = 2


class ReliabilityPolicy(IntEnum):
    SYSTEM_DEFAULT = 0
    RELIABLE = 1
    BEST_EFFORT = 2


class DurabilityPolicy(IntEnum):
    SYSTEM_DEFAULT = 0
    TRANSIENT_LOCAL = 1
    VOLATILE = 2


class QoSCompatibility(Enum):
    OK = 0
    WARNING = 1
    ERROR = 2


class QoSPolicyKind(IntEnum):
    HISTORY = 1
    DEPTH = 2
    RELIABILITY = 3


class InvalidQoSProfileException(Exception):
    pass


class QoSProfile:
    def __init__(self, **options):
        allowed = {"history", "depth", "reliability", "durability"}
        assert options.keys() <= allowed, f"Invalid arguments passed to constructor: {options.keys()}"
        if "depth" not in options:
            raise InvalidQoSProfileException("History and/or depth settings are required.")
        self.history = HistoryPolicy(options.get("history", HistoryPolicy.KEEP_LAST))
        assert isinstance(options["depth"], int)
        self.depth = options["depth"]
        self.reliability = ReliabilityPolicy(options.get("reliability", ReliabilityPolicy.RELIABLE))
        self.durability = DurabilityPolicy(options.get("durability", DurabilityPolicy.VOLATILE))


def qos_check_compatible(publisher_qos, subscription_qos):
    if (
        publisher_qos.reliability == ReliabilityPolicy.BEST_EFFORT
        and subscription_qos.reliability == ReliabilityPolicy.RELIABLE
    ):
        return QoSCompatibility.ERROR, "ERROR: Best effort publisher and reliable subscription;"
    if (
        publisher_qos.durability == DurabilityPolicy.VOLATILE
        and subscription_qos.durability == DurabilityPolicy.TRANSIENT_LOCAL
    ):
        return QoSCompatibility.ERROR, "ERROR: Volatile publisher and transient local subscription;"
    return QoSCompatibility.OK, ""
