"""A recorded bag is played for the perception node, and RViz shows what the node makes of it.

    ros2 launch diffusion_perception_ros replay.launch.py bag:=drive image_topic:=/camera/image_raw rate:=0.5

The bag starts when the node is active, so that none of it is missed, and the node's time is the bag's. The arguments of
perception.launch.py are understood, too. To turn every single frame of a bag into a new bag, however slow the model is,
use `ros2 run diffusion_perception_ros replay` instead.
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.event_handlers import OnStateTransition


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    # A path instead of substitutions, so that --show-args finds the arguments in there.
    perception = str(Path(__file__).with_name("perception.launch.py"))
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="The bag: a rosbag2 folder, or a .mcap or .db3 file."),
            DeclareLaunchArgument("rate", default_value="1.0", description="Speed of playback; 0.5 is half as fast."),
            DeclareLaunchArgument("loop", default_value="false", description="Begin anew at the end of the bag."),
            DeclareLaunchArgument("rviz", default_value="true", description="Show everything in RViz."),
            RegisterEventHandler(
                OnStateTransition(goal_state="active", entities=[OpaqueFunction(function=_play)], handle_once=True)
            ),
            IncludeLaunchDescription(
                perception, launch_arguments={"use_sim_time": "true", "rviz": LaunchConfiguration("rviz")}.items()
            ),
        ]
    )


def _play(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Play the bag."""
    bag, rate = LaunchConfiguration("bag"), LaunchConfiguration("rate")
    loop = ["--loop"] if IfCondition(LaunchConfiguration("loop")).evaluate(context) else []
    # The clock ticks faster than its default of 40 Hz, because the age of frames is measured on it. The delay is for
    # discovery: what is published before the subscribers are found is lost.
    command = ["ros2", "bag", "play", bag, "--rate", rate, "--clock", "100", "--delay", "1.0", *loop]
    return [ExecuteProcess(cmd=command, output="screen")]
