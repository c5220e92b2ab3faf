"""The paper's scaling recipe: six sizes, 256 and then 512 pixels, dense and then upcycled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_runs import CONFIGS, generalist, render_cache

from diffusion_perception_ros.model.flops import transformer_flops
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.training import GeneralistConfig, load_config, train
from diffusion_perception_ros.training.initialize import make_codec, make_transformer
from diffusion_perception_ros.training.log import read_rows

FOLDER = CONFIGS / "scaling"
# As published, to the digits that are given.
PARAMETERS = {"a1": 14.8e6, "a2": 77.2e6, "a3": 215e6, "a4": 458e6, "a5": 1.2e9, "a6": 1.9e9}


def fresh(name: str, codec: Path) -> GeneralistConfig:
    """A configuration of the recipe, without the runs before it, behind a small codec of the same shape."""
    config = generalist(FOLDER / f"{name}.yaml")
    return replace(config, model=replace(config.model, codec=codec, init=None, upcycle=None))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_all_are_in_order(path: Path, stable_diffusion: Path) -> None:
    config = generalist(path)
    assert config.name == path.stem
    if config.model.codec:
        config = fresh(path.stem, stable_diffusion)
    codec = make_codec(config)
    with torch.device("meta"):
        transformer = make_transformer(config, codec)
    assert transformer.config.sample_size * codec.downscale == config.resolution


@pytest.mark.parametrize("name", PARAMETERS)
def test_sizes_are_the_published_ones(name: str, stable_diffusion: Path) -> None:
    """Within 0.5 %, or half of the last digit that is published.

    The paper counts the position embedding, which is a buffer here; three patch convolutions of other tasks, two more
    latents and four more labels are ours.
    """
    config = fresh(name, stable_diffusion)
    codec = make_codec(config)
    with torch.device("meta"):
        transformer = make_transformer(config, codec)
    count = sum(p.numel() for p in transformer.parameters()) + transformer.pos_embed.numel()
    assert count == pytest.approx(PARAMETERS[name], rel=0.005, abs=0.05e9 if PARAMETERS[name] >= 1e9 else None)
    assert config.model.num_attention_heads == 16
    assert config.model.mlp_size == 4 * config.model.hidden_size


def test_the_stages_of_a4(stable_diffusion: Path) -> None:
    first, second, third = (generalist(FOLDER / f"{name}.yaml") for name in ("a4", "a4_512", "a4_moe"))
    assert [config.resolution for config in (first, second, third)] == [256, 512, 512]
    assert (second.model.init, third.model.init) == (Path("runs/a4/best"), None)
    assert (second.model.upcycle, third.model.upcycle) == (None, Path("runs/a4_512/best"))
    assert (second.model.num_experts, third.model.num_experts) == (0, 8)
    # A motion across the image is the same target at both sizes.
    ranges = [config.tasks["flow"].parameters["max_displacement"] / config.resolution for config in (first, second)]
    assert ranges[0] == ranges[1]
    flops = []
    for name in ("a4", "a4_512", "a4_moe"):
        config = fresh(name, stable_diffusion)
        codec = make_codec(config)
        with torch.device("meta"):
            flops.append(transformer_flops(make_transformer(config, codec)))
    assert 4 < flops[1] / flops[0] < 5  # four times the tokens, and attention
    assert 1.3 < flops[2] / flops[1] < 1.6  # two experts instead of one MLP


def test_the_recipe_in_miniature(tmp_path: Path) -> None:
    """Dense at 16 pixels, on at 32, then with experts; each stage a file on top of the one before."""
    first = f"""
base: {CONFIGS / "tiny.yaml"}
name: first
resolution: 16
steps: 2
model: {{num_experts: 0, patch_size: 1}}
report: {{validation_scenes: 8}}
"""
    second = f"""
base: first.yaml
name: second
resolution: 32
model: {{init: {tmp_path / "first" / "last"}}}
data: {{folder: {render_cache(tmp_path / "pairs")}}}
"""
    third = f"""
base: second.yaml
name: third
model: {{init: null, upcycle: {tmp_path / "second" / "last"}, num_experts: 4}}
"""
    for name, text in (("first", first), ("second", second), ("third", third)):
        (tmp_path / f"{name}.yaml").write_text(text)
        train(load_config(tmp_path / f"{name}.yaml"), tmp_path / name)
    pipe = PerceptionPipeline.from_pretrained(tmp_path / "third" / "last")
    assert pipe.metadata.resolution == 32
    assert pipe.transformer.config.num_experts == 4
    flops = [float(read_rows(tmp_path / name / "losses.csv")[-1]["flops"]) for name in ("first", "second", "third")]
    assert flops[0] < flops[1] < flops[2]
