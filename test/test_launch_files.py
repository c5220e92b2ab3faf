from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from diffusion_perception_ros.conversions.results import METRIC_TOPICS, TASK_TOPICS

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "launch").glob("*.launch.py"))
RVIZ = ROOT / "rviz" / "perception.rviz"

# What each file can be told, beside what it passes on to the files that it includes.
ARGUMENTS = {
    "perception": {
        "namespace", "params_file", "checkpoint", "device", "tasks", "cameras", "image_transport", "use_sim_time",
        "autostart", "log_level", "rviz", "rviz_config", "fixed_frame",
    },
    "replay": {"bag", "rate", "loop", "rviz"},
    "point_cloud": {"namespace", "color", "image_topic", "queue_size", "use_sim_time"},
}  # fmt: skip
TOPICS = {"image", "image_next", "camera_info", "visible_masks", "depth_reference"}

ros_only = pytest.mark.skipif(importlib.util.find_spec("launch_ros") is None, reason="ROS 2 is not installed")

# What `ros2 launch FILE NAME:=VALUE` does.
LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription

arguments = [argument.split(":=") for argument in sys.argv[2:]]
included = IncludeLaunchDescription(sys.argv[1], launch_arguments=arguments)
service = LaunchService()
service.include_launch_description(LaunchDescription([included]))
sys.exit(service.run())
"""


def name(path: Path) -> str:
    return path.name.removesuffix(".launch.py")


def declared(path: Path) -> list[ast.Call]:
    """The calls that declare arguments."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "DeclareLaunchArgument"]


def test_there_is_a_launch_file_for_each_purpose() -> None:
    assert {name(path) for path in FILES} == set(ARGUMENTS)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_it_compiles_and_every_argument_has_a_description(path: Path) -> None:
    compile(path.read_text(), path.name, "exec")
    for call in declared(path):
        description = next(keyword.value for keyword in call.keywords if keyword.arg == "description")
        assert isinstance(description, ast.JoinedStr) or ast.literal_eval(description).endswith(".")


@pytest.mark.parametrize("path", FILES, ids=name)
def test_it_has_these_arguments_and_uses_no_others(path: Path) -> None:
    names = {call.args[0].value for call in declared(path) if isinstance(call.args[0], ast.Constant)}
    assert names == ARGUMENTS[name(path)]
    used = set(re.findall(r'LaunchConfiguration\("(\w+)"\)', path.read_text()))
    assert used <= names


def test_every_topic_that_the_node_subscribes_to_can_be_named() -> None:
    (path,) = (path for path in FILES if name(path) == "perception")
    (table,) = re.findall(r"TOPICS = \{(.*?)\n\}", path.read_text(), re.DOTALL)
    assert set(re.findall(r'^    "(\w+)":', table, re.MULTILINE)) == TOPICS


@ros_only
@pytest.mark.parametrize("path", FILES, ids=name)
def test_ros_reads_it(path: Path) -> None:
    launch = importlib.import_module("launch")
    sources = importlib.import_module("launch.launch_description_sources")
    description = sources.PythonLaunchDescriptionSource(str(path)).get_launch_description(launch.LaunchContext())
    arguments = {argument.name for argument in description.get_launch_arguments()}
    assert arguments >= ARGUMENTS[name(path)]


@contextmanager
def launched(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The perception node's launch file, in a group of processes as a terminal has it, once the node has begun."""
    command = [sys.executable, "-u", "-c", LAUNCH, str(ROOT / "launch" / "perception.launch.py"), *arguments]
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, start_new_session=True, **streams) as process:
        try:
            assert process.stdout is not None
            assert any("process started" in line for line in iter(process.stdout.readline, ""))
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@ros_only
def test_ctrl_c_before_the_node_listens_is_no_error() -> None:
    with launched() as process:
        time.sleep(0.5)  # Python is there, torch is not
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert (process.returncode, "ERROR" in output, "Traceback" in output) == (0, False, False), output


@ros_only
def test_it_ends_with_a_node_that_cannot_start() -> None:
    with launched("log_level:=loud") as process:
        output, _ = process.communicate(timeout=30)
    assert "exit code 2" in output


@pytest.fixture(scope="module")
def displays() -> dict[str, Any]:
    """RViz's displays of topics, by topic."""
    config = YAML(typ="safe", pure=True).load(RVIZ)
    displays = config["Visualization Manager"]["Displays"]
    return {display["Topic"]["Value"]: display for display in displays if "Topic" in display}


def test_rviz_shows_the_topics_of_the_node(displays: dict[str, Any]) -> None:
    published = {**METRIC_TOPICS, **{topic: kind for topics in TASK_TOPICS.values() for topic, kind in topics.items()}}
    assert list(displays) == ["image", "depth/color", "flow/color", "amodal/overlay", "depth/points"]
    for topic in ("depth/color", "flow/color", "amodal/overlay"):
        assert published[topic] == "sensor_msgs/msg/Image"
    remapped = (ROOT / "launch" / "point_cloud.launch.py").read_text()
    assert remapped.count('("points", "depth/points")') == 2
    assert {"depth/image", "depth/camera_info"} <= published.keys()


def test_rviz_hears_publishers_that_are_best_effort(displays: dict[str, Any]) -> None:
    for topic in ("image", "depth/points"):
        assert displays[topic]["Topic"]["Reliability Policy"] == "Best Effort"


def test_rviz_has_a_window_for_each_image(displays: dict[str, Any]) -> None:
    config = YAML(typ="safe", pure=True).load(RVIZ)
    geometry = config["Window Geometry"]
    state = bytes.fromhex(geometry["QMainWindow State"])
    for display in displays.values():
        if display["Class"] == "rviz_default_plugins/Image":
            assert display["Name"] in geometry
            assert display["Name"].encode("utf-16-be") in state
