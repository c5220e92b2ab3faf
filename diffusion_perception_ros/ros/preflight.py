"""What a node's command does before it needs ROS: help, and a sentence about what is not installed."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Mapping

ROS_NEEDED = {"rclpy": "source a ROS 2 installation, for example with '. /opt/ros/jazzy/setup.bash'"}


def can_start(program: str, description: str, epilog: str, needed: Mapping[str, str], args: list[str] | None) -> bool:
    """Whether all that a node imports is installed; says on standard error what is not.

    Args:
        program: Name of the command.
        description: Of ``--help``, which ends the process.
        epilog: Of ``--help``.
        needed: Packages, and how to get each.
        args: Command line arguments without the program's name; by default the process'.
    """
    parser = argparse.ArgumentParser(
        program, description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_known_args(args)
    for package, remedy in needed.items():
        if importlib.util.find_spec(package) is None:
            print(f"{program}: {package} is missing; {remedy}.", file=sys.stderr)
            return False
    return True
