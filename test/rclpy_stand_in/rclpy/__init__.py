"""See README.md."""

from rclpy.context import Context

_default = Context()


def get_default_context():
    return _default


def init(*, args=None, context=None, signal_handler_options=None):
    (context or _default).init(args)


def ok(*, context=None):
    return (context or _default).ok()


def shutdown(*, context=None):
    global _default  # noqa: PLW0603
    (context or _default).shutdown()
    if context is None:
        _default = Context()


def try_shutdown(*, context=None):
    if ok(context=context):
        shutdown(context=context)


def create_node(name, **options):
    from rclpy.node import Node

    return Node(name, **options)
