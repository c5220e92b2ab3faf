from rcl_interfaces.msg import ParameterDescriptor

import rclpy.qos
from rclpy.exceptions import ParameterAlreadyDeclaredException
from rclpy.qos import QoSPolicyKind


class QoSOverridingOptions:
    def __init__(self, policy_kinds):
        self.policy_kinds = policy_kinds

    @classmethod
    def with_default_policies(cls):
        return cls((QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY))


def declare_qos_parameters(entity, node, topic, qos, options):
    for policy in options.policy_kinds:
        policy_name = policy.name.lower()
        name = f"qos_overrides.{topic}.{entity}.{policy_name}"
        default = getattr(qos, policy_name)
        value = default if policy == QoSPolicyKind.DEPTH else default.name.lower()
        try:
            given = node.declare_parameter(name, value, ParameterDescriptor(read_only=True)).value
        except ParameterAlreadyDeclaredException:
            given = node.get_parameter(name).value
        if policy != QoSPolicyKind.DEPTH:
            kind = getattr(rclpy.qos, f"{policy_name.capitalize()}Policy")
            try:
                given = kind[given.upper()]
            except KeyError:
                raise RuntimeError(f"Unexpected QoS override for policy `{policy_name}`: `{given}`") from None
        setattr(qos, policy_name, given)  # as in rclpy: into the profile that was passed
