"""What is asked: each task maps pictures to model inputs, and model outputs to physical units."""

from __future__ import annotations

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.metadata import TargetEncoding
from diffusion_perception_ros.tasks.amodal import Amodal
from diffusion_perception_ros.tasks.depth import Depth
from diffusion_perception_ros.tasks.flow import Flow
from diffusion_perception_ros.tasks.normals import Normals
from diffusion_perception_ros.tasks.target import Target, Truth
from diffusion_perception_ros.tasks.task import DecodeContext, Picture, Task

__all__ = [
    "DecodeContext",
    "Picture",
    "Target",
    "Task",
    "Truth",
    "channels_needed",
    "check_encoding",
    "find_task",
    "register",
    "registered_tasks",
    "released_encodings",
]

_TASKS: dict[str, Task] = {}


def register(task: Task) -> None:
    """Make a task available by its name.

    Raises:
        InputError: Another task has that name.
    """
    if task.name in _TASKS:
        raise InputError(f"a task named {task.name!r} is registered already; give the new one another name.")
    _TASKS[task.name] = task


def registered_tasks() -> tuple[str, ...]:
    """Names of all tasks, in order of registration."""
    return tuple(_TASKS)


def find_task(name: str) -> Task:
    """The task of that name.

    Raises:
        InputError: There is none.
    """
    try:
        return _TASKS[name]
    except KeyError:
        raise InputError(f"task {name!r} is unknown; use one of {', '.join(_TASKS)}.") from None


def released_encodings(num_labels: int) -> dict[str, TargetEncoding]:
    """Encodings of the released tasks that a label table of so many rows has room for, by task."""
    released = ((task.name, task.released) for task in _TASKS.values())
    return {name: encoding for name, encoding in released if encoding and max(encoding.labels) < num_labels}


def channels_needed(name: str, encoding: TargetEncoding) -> int:
    """How many channels of a task's images have to be decoded: 1 where all three are equal, else 3."""
    return 1 if encoding.kind in find_task(name).single_channel else 3


def check_encoding(name: str, encoding: TargetEncoding) -> None:
    """Whether a checkpoint's encoding of a task can be decoded.

    Raises:
        InputError: The task is not registered, or does not know the encoding or one of its parameters.
    """
    task = find_task(name)
    if encoding.kind not in task.kinds:
        raise InputError(
            f"task {name!r} does not know the target encoding {encoding.kind!r}; it knows {', '.join(task.kinds)}."
        )
    num_labels = task.num_labels.get(encoding.kind, 1)
    if len(encoding.labels) != num_labels:
        raise InputError(f"task {name!r} has the labels {encoding.labels}; {encoding.kind!r} needs {num_labels}.")
    missing = [parameter for parameter in task.kinds[encoding.kind] if parameter not in encoding.parameters]
    if missing:
        raise InputError(f"the encoding {encoding.kind!r} of task {name!r} lacks the parameter {missing[0]!r}.")


for _task in (Depth(), Flow(), Amodal(), Normals()):
    register(_task)
