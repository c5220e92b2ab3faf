"""``ros2 run diffusion_perception_ros mask_adapter_node``: a detector's boxes become label images of visible pixels."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

from diffusion_perception_ros.ros.preflight import ROS_NEEDED, can_start

_DESCRIPTION = "Turn a detector's boxes or masks into the label images that the perception node takes as visible_masks."
_EPILOG = """\
examples:
  ros2 run diffusion_perception_ros mask_adapter_node --ros-args -r detections:=/detector/detections \\
      -r camera_info:=/camera/camera_info
  ros2 run diffusion_perception_ros mask_adapter_node --ros-args -p source:=yolo_msgs -r detections:=/yolo/detections \\
      -p size_from:=image -r image:=/camera/image_raw -p overlap:=lower_edge

exit status: 0 after Ctrl-C, 2 if something that the node needs is not installed or its arguments are unusable.
"""
# How long Ctrl-C may go unnoticed; the signal does not wake the executor's wait by itself.
_PATIENCE = 0.1


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM.

    Args:
        args: Command line arguments without the program's name; by default the process'.

    Returns:
        The exit status.
    """
    if not can_start("mask_adapter_node", _DESCRIPTION, _EPILOG, ROS_NEEDED, args):
        return 2
    return _spin(args)


def _spin(args: list[str] | None) -> int:
    # Under launch it comes twice; as a flag, the second one cannot interrupt the end.
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())

    import rclpy  # noqa: PLC0415
    from rclpy.executors import SingleThreadedExecutor  # noqa: PLC0415
    from rclpy.signals import SignalHandlerOptions  # noqa: PLC0415

    from diffusion_perception_ros.ros.mask_adapter import MaskAdapter  # noqa: PLC0415

    node: Any = None
    try:
        rclpy.init(
            args=None if args is None else ["mask_adapter_node", *args], signal_handler_options=SignalHandlerOptions.NO
        )
        node = MaskAdapter()
    except Exception as error:  # of rclpy's own kinds, or ours; each is one sentence
        print(f"mask_adapter_node: {next(iter(str(error).splitlines()), type(error).__name__)}", file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not stopping.is_set() and rclpy.ok():
        executor.spin_once(timeout_sec=_PATIENCE)
    node.destroy_node()
    rclpy.try_shutdown()
    # While Python ends it no longer listens, and the signal would kill.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
