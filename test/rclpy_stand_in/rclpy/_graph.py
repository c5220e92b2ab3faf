"""What DDS is otherwise: who publishes, who subscribes, who serves; within this process."""

import threading

from rclpy.qos import QoSCompatibility, qos_check_compatible

changed = threading.Condition(threading.RLock())
publishers = []
subscriptions = []
services = []


def notify():
    with changed:
        changed.notify_all()


def matches(publisher, subscription):
    if publisher.topic_name != subscription.topic_name or publisher.msg_type is not subscription.msg_type:
        return False
    compatibility, _ = qos_check_compatible(publisher.qos_profile, subscription.qos_profile)
    return compatibility == QoSCompatibility.OK


def join(entity, entities):
    with changed:
        entities.append(entity)
        changed.notify_all()


def leave(entity, entities):
    with changed:
        if entity in entities:
            entities.remove(entity)
        changed.notify_all()
