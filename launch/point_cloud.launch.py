"""A point cloud, `depth/points`, from the perception node's metric depth, by depth_image_proc.

    ros2 launch diffusion_perception_ros point_cloud.launch.py color:=true image_topic:=/camera/image_raw

There is metric depth only while the node has an anchor for it (depth.scale_source), and so there are points.
"""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition, UnlessCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    namespace, color, image = (LaunchConfiguration(name) for name in ("namespace", "color", "image_topic"))
    sim_time = {"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)}
    queue_size = {"queue_size": ParameterValue(LaunchConfiguration("queue_size"), value_type=int)}
    return LaunchDescription(
        [
            DeclareLaunchArgument("namespace", default_value="", description="Namespace of the perception node."),
            DeclareLaunchArgument(
                "color", default_value="false", description="Points have the colours of the camera's image."
            ),
            DeclareLaunchArgument(
                "image_topic", default_value="image", description="The camera, rectified; used with color:=true."
            ),
            DeclareLaunchArgument(
                "queue_size",
                default_value="60",
                description="Camera frames that wait for their depth, with color:=true; more than the frame rate times "
                "the node's latency.",
            ),
            DeclareLaunchArgument("use_sim_time", default_value="false", description="Time comes from /clock."),
            Node(
                package="depth_image_proc",
                executable="point_cloud_xyz_node",
                name="point_cloud",
                namespace=namespace,
                parameters=[sim_time],
                # Humble takes camera_info from beside image_rect, later releases from beside what it is remapped to.
                remappings=[
                    ("image_rect", "depth/image"),
                    ("camera_info", "depth/camera_info"),
                    ("points", "depth/points"),
                ],
                condition=UnlessCondition(color),
                output="screen",
            ),
            Node(
                package="depth_image_proc",
                executable="point_cloud_xyzrgb_node",
                name="point_cloud",
                namespace=namespace,
                # Depth carries the stamp of its frame: a neighbouring frame's colours would be the wrong ones.
                parameters=[sim_time, queue_size, {"exact_sync": True}],
                # Humble takes camera_info from here, later releases from beside the camera's image.
                remappings=[
                    ("depth_registered/image_rect", "depth/image"),
                    ("rgb/camera_info", "depth/camera_info"),
                    ("rgb/image_rect_color", image),
                    ("points", "depth/points"),
                ],
                condition=IfCondition(color),
                output="screen",
            ),
        ]
    )
