"""``ros2 run diffusion_perception_ros perception_node``."""

from __future__ import annotations

import gc
import signal
import sys
from typing import Any

from diffusion_perception_ros.ros.preflight import ROS_NEEDED, can_start
from diffusion_perception_ros.threads import wait_passively

_DESCRIPTION = "Depth, optical flow and amodal masks of a camera's frames, as a ROS 2 lifecycle node."
_EPILOG = """\
examples:
  ros2 run diffusion_perception_ros perception_node --ros-args -r image:=/camera/image_raw
  ros2 run diffusion_perception_ros perception_node --ros-args -p device:=cuda -p tasks:=depth,flow
then:
  ros2 lifecycle set /perception configure
  ros2 lifecycle set /perception activate

exit status: 0 after Ctrl-C, 2 if something that the node needs is not installed or its arguments are unusable.
"""
_NEEDED = {
    **ROS_NEEDED,
    "torch": "install it with 'python3 -m pip install torch diffusers' in the Python that runs the node",
    "diffusers": "install it with 'python3 -m pip install diffusers' in the Python that runs the node",
}
# How long Ctrl-C may go unnoticed; the signal does not wake the executor's wait by itself.
_PATIENCE = 0.1


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM.

    Args:
        args: Command line arguments without the program's name; by default the process'.

    Returns:
        The exit status.
    """
    if not can_start("perception_node", _DESCRIPTION, _EPILOG, _NEEDED, args):
        return 2
    wait_passively()
    return _spin(args)


def _spin(args: list[str] | None) -> int:
    import rclpy  # noqa: PLC0415
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor  # noqa: PLC0415
    from rclpy.signals import SignalHandlerOptions  # noqa: PLC0415

    stopping = False
    node: Any = None

    def stop(*_: Any) -> None:
        nonlocal stopping
        # Under launch it comes twice; the second one must not interrupt the end.
        if not stopping:
            stopping = True
            if node is None or node.is_loading:
                raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        # Our own handlers: rclpy's would shut the context down under the worker's feet.
        rclpy.init(
            args=None if args is None else ["perception_node", *args], signal_handler_options=SignalHandlerOptions.NO
        )
    except KeyboardInterrupt:
        return 0
    except Exception as error:
        print(f"perception_node: {next(iter(str(error).splitlines()), type(error).__name__)}", file=sys.stderr)
        return 2
    try:
        # Here, because it brings torch.
        from diffusion_perception_ros.ros.node import PerceptionNode  # noqa: PLC0415

        node = PerceptionNode()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not stopping and rclpy.ok():
            executor.spin_once(timeout_sec=_PATIENCE)
    except (KeyboardInterrupt, ExternalShutdownException):
        stopping = True
    finally:
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


if __name__ == "__main__":
    sys.exit(main())
