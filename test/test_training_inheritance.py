"""Training files that are based on others."""

from __future__ import annotations

from pathlib import Path

import pytest
from training_runs import CONFIGS, tiny

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.training import load_config
from diffusion_perception_ros.training.inheritance import read_settings


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_settings_are_merged_one_by_one(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "name: a\nmodel: {hidden_size: 1, init: there}\nlabels: [1, 2]\n")
    write(tmp_path / "b.yaml", "base: a.yaml\nmodel: {init: null, mlp_size: 2}\nlabels: [3]\n")
    last = write(tmp_path / "further" / "c.yaml", "base: ../b.yaml\nname: c\n")
    assert read_settings(last) == {
        "name": "c", "model": {"hidden_size": 1, "init": None, "mlp_size": 2}, "labels": [3],
    }  # fmt: skip


def test_a_configuration_on_top_of_another(tmp_path: Path) -> None:
    path = write(tmp_path / "wide.yaml", f"base: {CONFIGS / 'tiny.yaml'}\nname: wide\nmodel: {{hidden_size: 64}}\n")
    config = load_config(path)
    assert config.name == "wide"
    assert config.tasks == tiny().tasks
    with pytest.raises(InputError, match=r"wide\.yaml: model\.num_attention_heads is 2, which does not divide"):
        load_config(write(path, path.read_text().replace("64", "63")))


def test_a_circle_of_bases(tmp_path: Path) -> None:
    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    write(a, "base: b.yaml\n")
    write(b, "base: ./a.yaml\n")
    with pytest.raises(InputError) as error:
        read_settings(a)
    assert str(error.value) == f"the bases lead in a circle, from {a} to {b} to {a}; remove one base."
    write(a, "base: a.yaml\n")
    with pytest.raises(InputError, match="in a circle"):
        read_settings(a)


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        ("base: none.yaml", "none.yaml, the base of {path}, cannot be read: No such file or directory."),
        ("base: [a, b]", "{path}.base must be a path to another YAML file, not ['a', 'b']."),
        ("base: list.yaml", "list.yaml, the base of {path}, must be a mapping of settings, not [1, 2]."),
        ("base: broken.yaml", "broken.yaml: not readable as YAML"),
        ("base: picture.yaml", "picture.yaml, the base of {path}, is no text file; name a YAML file."),
    ],
)
def test_bases_that_cannot_be_used(tmp_path: Path, base: str, sentence: str) -> None:
    write(tmp_path / "list.yaml", "[1, 2]")
    write(tmp_path / "broken.yaml", "[1, 2")
    (tmp_path / "picture.yaml").write_bytes(b"\x89PNG")
    path = write(tmp_path / "run.yaml", base)
    with pytest.raises(InputError) as error:
        read_settings(path)
    assert sentence.format(path=path) in str(error.value)
