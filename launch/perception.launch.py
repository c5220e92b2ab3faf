"""The perception node, brought up to where it works, and RViz beside it if asked for.

    ros2 launch diffusion_perception_ros perception.launch.py image_topic:=/camera/image_raw rviz:=true

`--show-args` describes the arguments. Topics of the node are relative: `namespace` (or a surrounding PushRosNamespace)
moves all of them but those that are given absolutely.
"""

from __future__ import annotations

import asyncio

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, EmitEvent, LogInfo, OpaqueFunction, RegisterEventHandler
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.ros_adapters import get_ros_node
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState as ChangeStateService

PACKAGE = "diffusion_perception_ros"

# What the node subscribes to. Remapped where an argument names a topic.
TOPICS = {
    "image": "The camera.",
    "image_next": "The second frames of flow pairs, with pairing: topics.",
    "camera_info": "The camera's calibration; camera_info beside the image unless given.",
    "visible_masks": "Label images of the objects' visible pixels, for amodal.",
    "depth_reference": "Metric depth that anchors the scale, with depth.scale_source: reference.",
}


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    share = FindPackageShare(PACKAGE)
    arguments = [
        *(
            DeclareLaunchArgument(f"{name}_topic", default_value="", description=f"{text} Empty: not remapped.")
            for name, text in TOPICS.items()
        ),
        DeclareLaunchArgument(
            "cameras",
            default_value="",
            description="Names of several cameras, separated by commas: all topics are then below each name, and the "
            "*_topic arguments too, as in image_topic:=image_raw for front/image_raw. Empty: as in params_file.",
        ),
        DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node and of RViz."),
        DeclareLaunchArgument(
            "params_file",
            default_value=PathJoinSubstitution([share, "config", "embedded.yaml"]),
            description="Parameters of the node; checkpoint, device, tasks, cameras and image_transport override them.",
        ),
        DeclareLaunchArgument(
            "checkpoint", default_value="", description="'embedded' or a checkpoint folder. Empty: as in params_file."
        ),
        DeclareLaunchArgument(
            "device", default_value="", description="auto, cpu, cuda or cuda:N. Empty: as in params_file."
        ),
        DeclareLaunchArgument(
            "tasks",
            default_value="",
            description="Of depth, flow, amodal, normals, separated by commas; or all. Empty: as in params_file.",
        ),
        DeclareLaunchArgument(
            "image_transport",
            default_value="",
            description="raw, or compressed for image_topic/compressed. Empty: as in params_file.",
        ),
        DeclareLaunchArgument(
            "use_sim_time",
            default_value="false",
            description="Time comes from /clock, as in a simulation.",
        ),
        DeclareLaunchArgument(
            "autostart",
            default_value="true",
            description="Configure and activate the node; otherwise that is left to ros2 lifecycle or a manager.",
        ),
        DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal."),
        DeclareLaunchArgument("rviz", default_value="false", description="Show everything in RViz."),
        DeclareLaunchArgument(
            "rviz_config",
            default_value=PathJoinSubstitution([share, "rviz", "perception.rviz"]),
            description="What RViz shows.",
        ),
        DeclareLaunchArgument(
            "fixed_frame",
            default_value="",
            description="RViz's fixed frame, which only the point cloud needs; the camera's optical frame will do. "
            "Empty: as in rviz_config.",
        ),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_nodes)])


def _nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The nodes, now that the arguments have values."""

    def value(name: str) -> str:
        text: str = LaunchConfiguration(name).perform(context)
        return text

    sim_time = {"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)}
    cameras = [camera.strip() for camera in value("cameras").split(",") if camera.strip()]
    topics = {name: value(f"{name}_topic") for name in TOPICS if value(f"{name}_topic")}
    remappings = [(camera + name, camera + topic) for camera in _prefixes(cameras) for name, topic in topics.items()]
    for name, topic in topics.items():
        if cameras and topic.startswith("/"):
            raise RuntimeError(f"{name}_topic is {topic}, one topic for several cameras; give it without the slash.")
    # Without value_type, a checkpoint folder called 2024 would become a number.
    texts = ("checkpoint", "device", "image_transport")
    overrides = {name: ParameterValue(value(name), value_type=str) for name in texts if value(name)}
    if value("tasks"):
        overrides["tasks"] = [task.strip() for task in value("tasks").split(",")]
    if cameras:
        overrides["cameras"] = cameras

    node = LifecycleNode(
        package=PACKAGE,
        executable="perception_node",
        name="perception",
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params_file"), overrides | sim_time],
        remappings=remappings,
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        name="rviz",
        namespace=LaunchConfiguration("namespace"),
        arguments=["-d", value("rviz_config"), *(["-f", value("fixed_frame")] if value("fixed_frame") else [])],
        parameters=[sim_time],
        remappings=[remapping for remapping in remappings if remapping[0] == "image"],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    # The handlers come first, so that they miss nothing of the node.
    start = _autostart(node) if IfCondition(LaunchConfiguration("autostart")).evaluate(context) else []
    return [*start, node, rviz]


def _prefixes(cameras: list[str]) -> list[str]:
    """In front of all topics' names: one for each camera, or none for a single one."""
    return [f"{camera}/" for camera in cameras] or [""]


def _autostart(node: LifecycleNode) -> list[LaunchDescriptionEntity]:
    """Configure the node when it listens, and activate it when that has succeeded, however long it takes.

    Only the first time: whoever takes the node down later by hand, or configures it after a failure, is not interfered
    with.
    """

    def change(transition: int) -> ChangeState:
        return ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition)

    async def configure(context: LaunchContext) -> None:
        # Told at once, launch_ros would wait for the service itself: for ever if the process ends before, and with an
        # error and exit status 1 if Ctrl-C comes before.
        client = get_ros_node(context).create_client(ChangeStateService, f"{node.node_name}/change_state")
        while not client.service_is_ready():
            await asyncio.sleep(0.1)
            if context.is_shutdown or node.return_code is not None:
                return
        await context.emit_event(change(Transition.TRANSITION_CONFIGURE))

    def started(context: LaunchContext) -> None:
        # Not an OpaqueCoroutine, which Ctrl-C cancels, and with it launch, before the node has ended.
        context.add_completion_future(context.asyncio_loop.create_task(configure(context)))

    def configured(context: LaunchContext) -> list[LaunchDescriptionEntity]:
        if context.locals.event.goal_state == "inactive":
            return [EmitEvent(event=change(Transition.TRANSITION_ACTIVATE))]
        return [
            LogInfo(
                msg=f"{node.node_name} is not configured, for the reason it gave above. It waits: remove the cause, "
                f"then 'ros2 lifecycle set {node.node_name} configure' and 'activate'; or launch it anew."
            )
        ]

    return [
        RegisterEventHandler(
            OnProcessStart(target_action=node, on_start=[OpaqueFunction(function=started)], handle_once=True)
        ),
        RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=node,
                start_state="configuring",
                entities=[OpaqueFunction(function=configured)],
                handle_once=True,
            )
        ),
    ]
