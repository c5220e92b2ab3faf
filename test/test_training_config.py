"""What a training file may say, and what it means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML
from training_runs import CONFIGS, generalist, tiny

import diffusion_perception_ros
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.training import CodecConfig, GeneralistConfig, load_config
from diffusion_perception_ros.training.codec_network import make_network
from diffusion_perception_ros.training.decoder_config import DecoderConfig
from diffusion_perception_ros.training.decoder_stage import DecoderStage
from diffusion_perception_ros.training.initialize import make_codec, make_transformer


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_in_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIGS.parent.parent)  # which paths in them are relative to
    config = load_config(path)
    assert config.name == path.stem
    assert config.questions().keys() == config.tasks.keys()
    if isinstance(config, CodecConfig):
        with torch.device("meta"):
            assert isinstance(make_network(config), torch.nn.Module)
        return
    if isinstance(config, DecoderConfig):
        if str(config.checkpoint) == "embedded":
            assert DecoderStage(config, torch.device("cpu")).sample_flops() > 0
        return
    assert isinstance(config, GeneralistConfig)
    codec = make_codec(config)
    # Sizes alone, but for a run that goes on from weights.
    with torch.device("cpu" if config.model.init else "meta"):
        transformer = make_transformer(replace(config, seed=0), codec)
    assert transformer.config.sample_size * codec.downscale == config.resolution


def test_the_embedded_checkpoint_is_the_small_one_and_fits() -> None:
    """What comes with the package is what its configuration makes, and at most 24 MB."""
    config = generalist(CONFIGS / "small.yaml")
    pipe = PerceptionPipeline.embedded("cpu")
    assert pipe.metadata == config.metadata()
    with torch.device("meta"):
        sizes = make_transformer(config, make_codec(config)).state_dict()
    assert {name: value.shape for name, value in pipe.transformer.state_dict().items()} == {
        name: value.shape for name, value in sizes.items()
    }
    folder = Path(diffusion_perception_ros.__file__).with_name("weights")
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 24e6


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
        ("optimizer:", "loss: {zeros_share: 1.5}\noptimizer:", "zeros_share is 1.5"),
        ("optimizer:", "loss: {one_step_share: 0.7, rollout_share: 0.4}\noptimizer:", "more than the whole batch"),
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


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("stage: codec", "stage: vae", "stage is 'vae'; use one of generalist, codec, decoder"),
        ("stage: codec\n", "", "unknown setting 'codec'"),
        ("kind: AutoencoderKL", "kind: VQModel", "the kind 'VQModel' is unknown; use AutoencoderKL or AutoencoderTiny"),
        ("kind: AutoencoderKL", "kind: AutoencoderTiny", "as many channels at all resolutions, not [8, 16]"),
        ("block_channels: [8, 16]", "block_channels: [8, 0]", "must be at least 1"),
        ("block_channels: [8, 16]", "block_channels: []", "must be at least 1"),
        ("block_channels: [8, 16]", "block_channels: [8, 8, 8, 8, 8, 8, 8]", "no multiple of 64"),
        ("kl: 0.0001", "kl: -1", "kl is -1.0; give 0 or a number above"),
        ("loss:", "diffusion: {}\nloss:", "unknown setting 'diffusion'"),
    ],
)
def test_errors_about_a_codec(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    text = (CONFIGS / "tiny_codec.yaml").read_text()
    assert old in text
    path = tmp_path / "run.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as error:
        load_config(path)
    assert sentence in str(error.value)
    assert str(path) in str(error.value)


def test_a_tiny_autoencoder_has_no_divergence(tmp_path: Path) -> None:
    text = (CONFIGS / "tiny_codec.yaml").read_text()
    text = text.replace("AutoencoderKL", "AutoencoderTiny").replace("[8, 16]", "[8, 8]")
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"no distribution to sample from; leave out loss\.kl"):
        load_config(path)


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
