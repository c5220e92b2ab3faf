"""A node's process: made, spun until SIGINT or SIGTERM, and ended without a word."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

# How long Ctrl-C may go unnoticed; the signal does not wake the executor's wait by itself.
_PATIENCE = 0.1


class _Interrupted(BaseException):
    """SIGINT or SIGTERM, where nothing looks at a flag.

    Not KeyboardInterrupt, which Python may remember although it was caught, and then end itself with SIGINT instead of
    the exit status (seen with python -m).
    """


def spin(program: str, load: Callable[[], Callable[[], Any]], args: list[str] | None) -> int:
    """Run a node until SIGINT or SIGTERM.

    Args:
        program: Name of the command.
        load: Imports what the node takes, and returns what makes the node. While the node's ``is_loading`` is true, if
            it has one, a signal interrupts it.
        args: Command line arguments without the program's name; by default the process'.

    Returns:
        The exit status.
    """
    import rclpy  # noqa: PLC0415
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor  # noqa: PLC0415
    from rclpy.signals import SignalHandlerOptions  # noqa: PLC0415

    stopping, importing = False, True
    node: Any = None

    def stop(*_: Any) -> None:
        nonlocal stopping
        if importing:
            # Extension modules abort where an exception comes out of what they call while they are initialised (seen
            # with torch.distributed). There is nothing to clean up yet.
            os._exit(0)
        # Under launch it comes twice; the second one must not interrupt the end.
        if not stopping:
            stopping = True
            if getattr(node, "is_loading", False):
                raise _Interrupted

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        # Our own handlers: rclpy's would shut the context down under the feet of a node's threads.
        rclpy.init(args=None if args is None else [program, *args], signal_handler_options=SignalHandlerOptions.NO)
        make = load()
        importing = False
        node = make()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not stopping and rclpy.ok():
            executor.spin_once(timeout_sec=_PATIENCE)
    except (_Interrupted, ExternalShutdownException):
        stopping = True
    except Exception as error:
        if node is not None:
            raise
        # Of rclpy's own kinds, or ours: arguments or parameters that are unusable.
        print(f"{program}: {next(iter(str(error).splitlines()), type(error).__name__)}", file=sys.stderr)
        return 2
    finally:
        stopping, importing = True, False
        if node is not None:
            if node.executor is not None:
                node.executor.shutdown()
            node.destroy_node()
        rclpy.try_shutdown()
        # While Python ends it no longer listens, and a second signal would kill.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        # Or the interpreter looks through all of torch for garbage before it ends, which takes longer than all else.
        gc.freeze()
    return 0
