"""The table of parameters, declared on a node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.ros.parameters import DECLARATIONS, Declaration, Value


class ParameterStore:
    """Declares the parameters and knows their values.

    rclpy raises out of the node's constructor for an override of the wrong type or range (``max_rate:=10`` is an
    integer), with a stack trace for the user. So each parameter is declared twice: first for any type, which tells what
    the override is, then properly with what it could be read as. An override that cannot be read is remembered, and
    ``usable`` refuses until the parameter has been set.

    Args:
        node: The node.

    Attributes:
        values: By name.
    """

    def __init__(self, node: Node) -> None:
        self.values: dict[str, Value] = {}
        self._problems: dict[str, str] = {}
        for declaration in DECLARATIONS:
            name = declaration.name
            given = node.declare_parameter(name, declaration.default, ParameterDescriptor(dynamic_typing=True)).value
            node.undeclare_parameter(name)
            try:
                self.values[name] = declaration.read(given)
            except InputError as error:
                self.values[name] = declaration.default
                self._problems[name] = str(error)
            node.declare_parameter(name, self.values[name], _descriptor(declaration), ignore_override=True)

    def usable(self) -> Mapping[str, Value]:
        """The values.

        Raises:
            InputError: The node was started with an unusable one.
        """
        for sentence in self._problems.values():
            raise InputError(sentence)
        return self.values

    def accept(self, values: Mapping[str, Value], changed: Iterable[str]) -> None:
        """Take over checked values."""
        self.values = dict(values)
        for name in changed:
            self._problems.pop(name, None)


def _descriptor(declaration: Declaration) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=declaration.description, read_only=declaration.read_only)
    if declaration.choices:
        descriptor.additional_constraints = "One of " + ", ".join(declaration.choices) + "."
    elif declaration.while_inactive:
        descriptor.additional_constraints = "Only while the node is not active."
    low, high = declaration.minimum, declaration.maximum
    if declaration.has_range and isinstance(declaration.default, int):
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=0)]
    elif declaration.has_range:
        descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]
    return descriptor
