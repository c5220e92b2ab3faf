"""The process: signals, exit status, what is not installed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PATH = os.pathsep.join([str(ROOT), *(path for path in sys.path if path)])

# The node as its command runs it, brought up from inside, predicting without end.
PROGRAM = """
import threading, time
import numpy as np
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.ros import node as module, perception_node

PerceptionPipeline.embedded = classmethod(lambda cls, **options: cls.random(32, num_layers=4))

def drive(node):
    time.sleep(0.2)
    assert node.trigger_configure().name == node.trigger_activate().name == "SUCCESS"
    from node_rig import image_message, picture
    intake = node._cameras[0].inputs.intake
    for i in range(1000):
        intake.add_image(image_message(10**18 + i * 10**8, picture(i, 480, 640)))
        if i == 3:
            print("running", flush=True)
        time.sleep(0.02)

class Driven(module.PerceptionNode):
    def __init__(self):
        super().__init__(cli_args=["--ros-args", "-p", "lazy:=false", "-p", "num_inference_steps:=200"])
        threading.Thread(target=drive, args=(self,), daemon=True).start()

module.PerceptionNode = Driven
raise SystemExit(perception_node.main([]))
"""

# The same while configure loads a checkpoint, in a callback as it is with the lifecycle service.
LOADING = """
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.ros import node as module, perception_node

def load(cls, **options):
    print("running", flush=True)
    time.sleep(60)

PerceptionPipeline.embedded = classmethod(load)

class Driven(module.PerceptionNode):
    def __init__(self):
        super().__init__()
        self.create_timer(0.05, self.trigger_configure)

module.PerceptionNode = Driven
raise SystemExit(perception_node.main([]))
"""

# The same while an extension module is initialised, which calls Python in between: an exception that came out of there
# would be none that Python sees. Here that is an error at once.
IMPORTING = """
import builtins, time
from diffusion_perception_ros.ros import perception_node

find = builtins.__import__

def initialise(name, *rest):
    if not name.startswith("torch"):
        return find(name, *rest)
    print("running", flush=True)
    try:
        time.sleep(60)
    except BaseException:
        print("Traceback", file=__import__("sys").stderr)
        raise SystemExit(6) from None

builtins.__import__ = initialise
raise SystemExit(perception_node.main([]))
"""


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGINT, signal.SIGINT], [signal.SIGTERM, signal.SIGINT]])
def test_ctrl_c_ends_it_without_a_traceback(signals: list[signal.Signals]) -> None:
    end_by(signals, PROGRAM)


def test_ctrl_c_ends_a_long_configure() -> None:
    end_by([signal.SIGINT], LOADING)


def test_ctrl_c_ends_it_while_it_imports() -> None:
    end_by([signal.SIGINT], IMPORTING)


def end_by(signals: list[signal.Signals], program: str) -> None:
    environment = {**os.environ, "PYTHONPATH": PATH, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n", process.communicate()[1]
    for number in signals:
        process.send_signal(number)
        time.sleep(0.05)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("missing", "words"), [("rclpy", "source a ROS 2 installation"), ("torch", "install it with"), ("diffusers", "pip")]
)
def test_what_is_not_installed_is_named(missing: str, words: str) -> None:
    program = (
        "import importlib.util as u; find = u.find_spec\n"
        f"u.find_spec = lambda name, *rest: None if name == {missing!r} else find(name, *rest)\n"
        "from diffusion_perception_ros.ros.perception_node import main\n"
        "raise SystemExit(main([]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": PATH}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(f"perception_node: {missing} is missing; ")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
