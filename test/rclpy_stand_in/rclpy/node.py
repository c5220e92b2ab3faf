import sys

from rcl_interfaces.msg import Log, ParameterDescriptor, SetParametersResult
from rosgraph_msgs.msg import Clock as ClockMessage
from ruamel.yaml import YAML

import rclpy
from rclpy import _entities, _graph
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    NotInitializedException,
    ParameterAlreadyDeclaredException,
    ParameterImmutableException,
    ParameterNotDeclaredException,
)
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions, declare_qos_parameters
from rclpy.time import Time


class _Logger:
    def __init__(self, node):
        self._node = node

    def _log(self, level, message):
        print(f"[{self._node.get_fully_qualified_name()}]: {message}", file=sys.stderr)
        name = self._node.get_fully_qualified_name().lstrip("/").replace("/", ".")
        self._node._rosout.publish(Log(level=level, name=name, msg=str(message)))

    def info(self, message, **_):
        self._log(20, message)

    def warning(self, message, **_):
        self._log(30, message)

    def error(self, message, **_):
        self._log(40, message)


class TopicEndpointInfo:
    def __init__(self, endpoint):
        self.node_name, self.node_namespace = endpoint.node.get_name(), endpoint.node.get_namespace()
        self.topic_type, self.qos_profile = endpoint.msg_type._TYPE, endpoint.qos_profile


def _ros_arguments(arguments):
    """Rules of -r and values of -p; everything between --ros-args and --."""
    rules, values, inside, it = [], {}, False, iter(arguments)
    for argument in it:
        if argument in ("--ros-args", "--"):
            inside = argument == "--ros-args"
        elif inside and argument in ("-r", "--remap"):
            rules.append(tuple(next(it).split(":=", 1)))
        elif inside and argument in ("-p", "--param"):
            name, text = next(it).split(":=", 1)
            values[name] = YAML(typ="safe").load(text)
    return rules, values


class Node:
    def __init__(
        self, name, *, context=None, cli_args=None, namespace=None, use_global_arguments=True, parameter_overrides=None
    ):
        self._context = context or rclpy.get_default_context()
        if not self._context.ok():
            raise NotInitializedException("cannot create node")
        shared = self._context.arguments if use_global_arguments else []
        rules, values = _ros_arguments([*shared, "--", *(cli_args or [])])
        names = dict(rules)
        self._name = names.get("__node", name)
        self._namespace = "/" + names.get("__ns", namespace or "/").strip("/")
        self._rules = [(self._expand(a), self._expand(b)) for a, b in rules if not a.startswith("__")]
        self._parameter_overrides = {name: Parameter(name, value=value) for name, value in values.items()}
        self._parameter_overrides.update({p.name: p for p in parameter_overrides or []})
        self._parameters, self._descriptors = {}, {}
        self._on_set_parameters_callbacks = []
        self._publishers, self._subscriptions, self._services, self._clients, self._timers = [], [], [], [], []
        self.executor = None
        self._clock = Clock(clock_type=ClockType.ROS_TIME)
        self._clock_subscription = None
        rosout = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._rosout = Node.create_publisher(self, Log, "/rosout", rosout)
        self.declare_parameter("use_sim_time", False)
        self._use_sim_time(self.get_parameter("use_sim_time").value)
        self.add_on_set_parameters_callback(self._on_parameter_event)

    @property
    def context(self):
        return self._context

    def get_name(self):
        return self._name

    def get_namespace(self):
        return self._namespace

    def get_fully_qualified_name(self):
        return f"{self._namespace.rstrip('/')}/{self._name}"

    def get_logger(self):
        return _Logger(self)

    def get_clock(self):
        return self._clock

    # Names

    def _expand(self, name):
        if name.startswith("/"):
            return name
        if name.startswith("~"):
            return f"{self.get_fully_qualified_name()}/{name[1:].lstrip('/')}"
        return f"{self._namespace.rstrip('/')}/{name}"

    def resolve_topic_name(self, topic, *, only_expand=False):
        expanded = self._expand(topic)
        return expanded if only_expand else dict(self._rules).get(expanded, expanded)

    # Parameters

    def declare_parameter(self, name, value=None, descriptor=None, ignore_override=False):
        descriptor = ParameterDescriptor() if descriptor is None else descriptor
        if not descriptor.dynamic_typing:
            descriptor.type = Parameter.Type.from_parameter_value(value).value
            if descriptor.type == 0:
                raise ValueError("Cannot declare a statically typed parameter with default value of type NOT_SET")
        if not ignore_override and name in self._parameter_overrides:
            value = self._parameter_overrides[name].value
        if name in self._parameters:
            raise ParameterAlreadyDeclaredException("Parameter(s) already declared", [name])
        parameter = Parameter(name, value=value)
        result = self._set([parameter], {name: descriptor})
        if not result.successful:
            if result.reason.startswith("Wrong parameter type"):
                raise InvalidParameterTypeException(result.reason, name)
            raise InvalidParameterValueException(result.reason, name)
        return parameter

    def undeclare_parameter(self, name):
        if name not in self._parameters:
            raise ParameterNotDeclaredException("Invalid access to undeclared parameter(s)", name)
        if self._descriptors[name].read_only:
            raise ParameterImmutableException("Attempted to modify read-only parameter", name)
        del self._parameters[name], self._descriptors[name]

    def has_parameter(self, name):
        return name in self._parameters

    def get_parameter(self, name):
        if name not in self._parameters:
            raise ParameterNotDeclaredException("Invalid access to undeclared parameter(s)", name)
        return self._parameters[name]

    def describe_parameter(self, name):
        return self._descriptors[name]

    def set_parameters(self, parameters):
        return [self.set_parameters_atomically([parameter]) for parameter in parameters]

    def set_parameters_atomically(self, parameters):
        undeclared = [p.name for p in parameters if p.name not in self._parameters]
        if undeclared:
            raise ParameterNotDeclaredException("Invalid access to undeclared parameter(s)", undeclared)
        return self._set(parameters, None)

    def add_on_set_parameters_callback(self, callback):
        self._on_set_parameters_callbacks.insert(0, callback)

    def _set(self, parameters, descriptors):
        for parameter in parameters:
            descriptor = (descriptors or self._descriptors)[parameter.name]
            reason = self._reason_against(parameter, descriptor, check_read_only=descriptors is None)
            if reason:
                return SetParametersResult(successful=False, reason=reason)
        for callback in self._on_set_parameters_callbacks:
            result = callback(parameters)
            if not result.successful:
                return result
        for parameter in parameters:
            if descriptors is not None:
                self._descriptors[parameter.name] = descriptors[parameter.name]
            self._parameters[parameter.name] = parameter
        return SetParametersResult(successful=True)

    @staticmethod
    def _reason_against(parameter, descriptor, check_read_only):
        descriptor.name = parameter.name
        if check_read_only and descriptor.read_only:
            return f"Trying to set a read-only parameter: {parameter.name}."
        if descriptor.dynamic_typing:
            descriptor.type = parameter.type_.value
        elif parameter.type_.value != descriptor.type:
            return f"Wrong parameter type, expected '{Parameter.Type(descriptor.type)}' got '{parameter.type_}'"
        ranges = {"INTEGER": descriptor.integer_range, "DOUBLE": descriptor.floating_point_range}
        for allowed in ranges.get(parameter.type_.name, []):
            low, high = allowed.from_value, allowed.to_value
            if not low <= parameter.value <= high:
                return f"Parameter {parameter.name} out of range. Min: {low}, Max: {high}, value: {parameter.value}"
        return ""

    # Simulated time

    def _on_parameter_event(self, parameters):
        for parameter in parameters:
            if parameter.name == "use_sim_time":
                if parameter.type_ != Parameter.Type.BOOL:
                    return SetParametersResult(successful=False, reason="use_sim_time is no bool")
                self._use_sim_time(parameter.value)
        return SetParametersResult(successful=True)

    def _use_sim_time(self, active):
        if active == (self._clock_subscription is not None):
            return
        if active:
            self._clock.set_override(0)
            qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
            self._clock_subscription = self.create_subscription(ClockMessage, "/clock", self._on_clock, qos)
        else:
            self._clock.set_override(None)
            self.destroy_subscription(self._clock_subscription)
            self._clock_subscription = None

    def _on_clock(self, message):
        self._clock.set_override(Time.from_msg(message.clock).nanoseconds)

    # Entities

    def create_publisher(self, msg_type, topic, qos_profile, *, qos_overriding_options=None, publisher_class=None):
        qos = qos_profile if isinstance(qos_profile, QoSProfile) else QoSProfile(depth=qos_profile)
        resolved = self.resolve_topic_name(topic)
        declare_qos_parameters("publisher", self, resolved, qos, qos_overriding_options or QoSOverridingOptions([]))
        publisher = (publisher_class or _entities.Publisher)(self, msg_type, resolved, qos)
        self._publishers.append(publisher)
        return publisher

    def create_subscription(self, msg_type, topic, callback, qos_profile, *, qos_overriding_options=None):
        qos = qos_profile if isinstance(qos_profile, QoSProfile) else QoSProfile(depth=qos_profile)
        resolved = self.resolve_topic_name(topic)
        declare_qos_parameters("subscription", self, resolved, qos, qos_overriding_options or QoSOverridingOptions([]))
        subscription = _entities.Subscription(self, msg_type, resolved, callback, qos)
        self._subscriptions.append(subscription)
        return subscription

    def create_service(self, srv_type, name, callback):
        service = _entities.Service(self, srv_type, self.resolve_topic_name(name), callback)
        self._services.append(service)
        return service

    def create_client(self, srv_type, name):
        client = _entities.Client(srv_type, self.resolve_topic_name(name))
        self._clients.append(client)
        return client

    def create_timer(self, period, callback, callback_group=None, clock=None):
        timer = _entities.Timer(period, callback, clock or self._clock)
        self._timers.append(timer)
        _graph.notify()
        return timer

    def destroy_publisher(self, publisher):
        return self._destroy(publisher, self._publishers)

    def destroy_subscription(self, subscription):
        return self._destroy(subscription, self._subscriptions)

    def destroy_timer(self, timer):
        return self._destroy(timer, self._timers)

    def destroy_node(self):
        for entities in (self._publishers, self._subscriptions, self._services, self._timers):
            while entities:
                self._destroy(entities[0], entities)

    @staticmethod
    def _destroy(entity, entities):
        if entity not in entities:
            return False
        entities.remove(entity)
        entity.destroy()
        return True

    def get_publishers_info_by_topic(self, topic):
        with _graph.changed:
            return [TopicEndpointInfo(p) for p in _graph.publishers if p.topic_name == self._expand(topic)]

    def count_subscribers(self, topic):
        with _graph.changed:
            return sum(s.topic_name == self._expand(topic) for s in _graph.subscriptions)

    def count_publishers(self, topic):
        return len(self.get_publishers_info_by_topic(topic))
