from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from diffusion_perception_ros.ros.parameters import BY_NAME
from diffusion_perception_ros.ros.settings import settings_from

FILES = sorted((Path(__file__).resolve().parent.parent / "config").glob("*.yaml"))


def parameters(path: Path) -> dict[str, Any]:
    """The parameters of a file that is meant for a node of any name."""
    content = YAML(typ="safe", pure=True).load(path)
    assert list(content) == ["/**"]
    assert list(content["/**"]) == ["ros__parameters"]
    return dict(content["/**"]["ros__parameters"])


def test_there_is_a_file_for_each_kind_of_machine() -> None:
    assert [path.stem for path in FILES] == ["embedded", "generalist_desktop", "generalist_embedded"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_parameters_are_declared_have_their_type_and_fit_each_other(path: Path) -> None:
    values = parameters(path)
    for name, value in values.items():
        # ROS does not take the integer 1 for a double.
        assert type(value) is type(BY_NAME[name].default), name
    settings_from({name: declaration.default for name, declaration in BY_NAME.items()} | values)


def test_the_default_file_changes_no_default() -> None:
    for name, value in parameters(FILES[0]).items():
        assert value == BY_NAME[name].default, name
