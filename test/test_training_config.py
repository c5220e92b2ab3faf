"""What a training file may say, and what it means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML
from training_runs import CONFIGS, tiny

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.training import load_config
from diffusion_perception_ros.training.initialize import make_codec, make_transformer


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_in_order(path: Path) -> None:
    config = load_config(path)
    assert config.name == path.stem
    assert config.questions().keys() == config.tasks.keys()
    codec = make_codec(config)
    with torch.device("meta"):
        transformer = make_transformer(replace(config, seed=0), codec)
    assert transformer.config.sample_size * codec.downscale == config.resolution


def test_the_embedded_checkpoint_fits_and_is_mostly_asked_for_depth() -> None:
    config = load_config(CONFIGS / "small.yaml")
    half_precision_bytes = 2 * sum(p.numel() for p in make_transformer(config, make_codec(config)).parameters())
    assert half_precision_bytes < 23e6
    counts = config.questions()
    samples = {name: count * len(config.tasks[name].labels) for name, count in counts.items()}
    assert sum(samples.values()) == config.batch_size
    assert samples["depth"] >= 0.4 * config.batch_size


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("steps: 12", "stepps: 12", "unknown setting 'stepps'"),
        ("steps: 12", "", "lacks the setting 'steps'"),
        ("steps: 12", "steps: twelve", "steps must be a whole number, not 'twelve'"),
        ("steps: 12", "steps: true", "steps must be a whole number, not True"),
        ("steps: 12", "steps: 0", "steps must be at least 1, not 0"),
        ("batch_size: 12", "batch_size: 3", "no room for task 'flow'"),
        ("  pairs: 16", "  pairs: [16]", "data.pairs must be a whole number"),
        ("kind: affine", "kind: metric", "does not know the target encoding 'metric'"),
        ("labels: [1000]", "labels: 1000", "tasks.depth.labels must be a list"),
        ("  depth:", "  height:", "task 'height' is unknown"),
        ("parameters: {max_displacement: 8.0}", "parameters: {}", "lacks the parameter 'max_displacement'"),
        ("resolution: 32", "resolution: 32\ndiffusion: {prediction_type: epsilon}", "zero terminal SNR"),
        ("resolution: 32", "resolution: 32\nprecision: fp8", "precision 'fp8' is unknown"),
        ("resolution: 32", "resolution: 32\ndiffusion: 3", "diffusion must be a mapping"),
        ("resolution: 32", "resolution: [32", "not readable as YAML"),
        ("share: 0.5", "share: 0", "share above 0"),
        ("optimizer:", "optimizer:\n  betas: [0.9]", "betas must have 2 entries"),
        ("optimizer:", "optimizer:\n  name: sgd", "optimizer 'sgd' is unknown"),
    ],
)
def test_errors_name_the_place(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    text = (CONFIGS / "tiny.yaml").read_text()
    assert old in text
    path = tmp_path / "run.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as error:
        load_config(path)
    assert sentence in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_whole_numbers_are_numbers_and_null_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text((CONFIGS / "tiny.yaml").read_text() + "max_minutes: 3\n")
    assert load_config(path).max_minutes == 3.0
    path.write_text((CONFIGS / "tiny.yaml").read_text() + "max_minutes: null\n")
    assert load_config(path).max_minutes is None


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")


def test_learning_rate_warms_up_and_decays_exponentially() -> None:
    config = tiny(steps=1000)
    config = replace(config, optimizer=replace(config.optimizer, warmup_steps=99, learning_rate=1.0, final_ratio=0.01))
    assert config.learning_rate(0) == pytest.approx(0.01)
    assert config.learning_rate(49) == pytest.approx(0.5 * 0.01 ** (49 / 1000))
    assert config.learning_rate(500) == pytest.approx(0.1)
    assert config.learning_rate(1000) == pytest.approx(0.01)
    assert config.learning_rate(700) / config.learning_rate(600) == pytest.approx(0.01**0.1)


def test_sizes_that_do_not_fit() -> None:
    config = tiny(resolution=36)
    with pytest.raises(InputError, match="resolution 36 is no multiple of 4"):
        make_transformer(config, make_codec(config))


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (("optimizer", "learning_rate"), -1.0, "learning_rate is -1.0; give a number above 0"),
        (("optimizer", "ema"), 1.0, "ema and betas must be at least 0 and below 1"),
        (("model", "num_attention_heads"), 5, "num_attention_heads is 5, which does not divide"),
        (("model", "num_experts_per_tok"), 9, "num_experts_per_tok is 9; use 1 to 4"),
        (("report", "inference_steps"), [], r"inference_steps is \[\]; list numbers from 1 to 1000"),
        (("report", "inference_steps"), [0], r"inference_steps is \[0\]; list numbers from 1 to 1000"),
        (("tasks", "depth", "labels"), [1001], "two tasks have one label"),
    ],
)
def test_impossible_values_are_refused_before_anything_is_rendered(
    tmp_path: Path, place: tuple[str, ...], value: object, sentence: str
) -> None:
    settings = YAML(typ="safe", pure=True).load((CONFIGS / "tiny.yaml").read_text())
    inner = settings
    for name in place[:-1]:
        inner = inner.setdefault(name, {})
    inner[place[-1]] = value
    with (tmp_path / "edited.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(settings, file)
    with pytest.raises(InputError, match=sentence):
        load_config(tmp_path / "edited.yaml")


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nope\.yaml cannot be read: No such file or directory\.$"):
        load_config(tmp_path / "nope.yaml")
    (tmp_path / "picture.yaml").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match="is no text file"):
        load_config(tmp_path / "picture.yaml")
