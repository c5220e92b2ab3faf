"""``ros2 run diffusion_perception_ros mask_adapter_node``: a detector's boxes become label images of visible pixels."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from diffusion_perception_ros.ros.preflight import ROS_NEEDED, can_start
from diffusion_perception_ros.ros.spin import spin

_DESCRIPTION = "Turn a detector's boxes or masks into the label images that the perception node takes as visible_masks."
_EPILOG = """\
examples:
  ros2 run diffusion_perception_ros mask_adapter_node --ros-args -r detections:=/detector/detections \\
      -r camera_info:=/camera/camera_info
  ros2 run diffusion_perception_ros mask_adapter_node --ros-args -p source:=yolo_msgs -r detections:=/yolo/detections \\
      -p size_from:=image -r image:=/camera/image_raw -p overlap:=lower_edge

exit status: 0 after Ctrl-C, 2 if something that the node needs is not installed or its arguments are unusable.
"""


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM.

    Args:
        args: Command line arguments without the program's name; by default the process'.

    Returns:
        The exit status.
    """
    if not can_start("mask_adapter_node", _DESCRIPTION, _EPILOG, ROS_NEEDED, args):
        return 2
    return spin("mask_adapter_node", _load, args)


def _load() -> Callable[[], Any]:
    from diffusion_perception_ros.ros.mask_adapter import MaskAdapter  # noqa: PLC0415

    return MaskAdapter


if __name__ == "__main__":
    sys.exit(main())
