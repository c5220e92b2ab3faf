"""``ros2 run diffusion_perception_ros perception_node``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from diffusion_perception_ros.ros.preflight import ROS_NEEDED, can_start
from diffusion_perception_ros.ros.spin import spin
from diffusion_perception_ros.threads import wait_briefly

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


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM.

    Args:
        args: Command line arguments without the program's name; by default the process'.

    Returns:
        The exit status.
    """
    if not can_start("perception_node", _DESCRIPTION, _EPILOG, _NEEDED, args):
        return 2
    wait_briefly()
    return spin("perception_node", _load, args)


def _load() -> Callable[[], Any]:
    # Here, because it brings torch.
    from diffusion_perception_ros.ros.node import PerceptionNode  # noqa: PLC0415

    return PerceptionNode


if __name__ == "__main__":
    sys.exit(main())
