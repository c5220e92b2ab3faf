"""Shared fixtures: reference data where it is there, small random checkpoints everywhere."""

from __future__ import annotations

import importlib.util
import json
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import diffusion_perception_ros
from diffusion_perception_ros.model.official import to_official_state_dict
from diffusion_perception_ros.model.random import SCHEDULER_CONFIG, random_codec, random_transformer
from diffusion_perception_ros.pipeline import PerceptionPipeline

# A busy machine is no fault of what is tested.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"

if importlib.util.find_spec("rclpy") is None:
    sys.path.append(str(Path(__file__).resolve().parent / "rclpy_stand_in"))
    # Where the generated message classes are looked for; in a ROS installation they are there from the start.
    diffusion_perception_ros.__path__ = pkgutil.extend_path(
        diffusion_perception_ros.__path__, diffusion_perception_ros.__name__
    )


def shared(*parts: str) -> Path:
    """A path in the reference data beside the checkout; skips the test where it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"reference data {'/'.join(parts)} is not beside this checkout")
    return path


@pytest.fixture(scope="session")
def pipe() -> PerceptionPipeline:
    """A small random generalist, 64x64, v-prediction."""
    return PerceptionPipeline.random(64)


@pytest.fixture(scope="session")
def stable_diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny stable-diffusion-2 folder."""
    folder = tmp_path_factory.mktemp("sd") / "stable-diffusion-2"
    random_codec().vae.save_pretrained(folder / "vae")
    (folder / "scheduler").mkdir()
    config = {"_class_name": "DDIMScheduler", **SCHEDULER_CONFIG}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    return folder


SMALL: dict[str, Any] = {"hidden_size": 32, "num_layers": 2, "num_attention_heads": 4, "mlp_size": 64, "num_experts": 4}


def write_official(path: Path, **config: Any) -> dict[str, torch.Tensor]:
    """Write a random checkpoint in the released format; returns its state dict."""
    transformer = random_transformer(**{"sample_size": 8, **SMALL, **config})
    state_dict = {key: value.clone() for key, value in to_official_state_dict(transformer).items()}
    torch.save(state_dict, path)
    return state_dict


@pytest.fixture
def frames() -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """A 60x80 image, its successor shifted by two pixels, and a label image with objects 2 and 7."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (12, 16, 3)).astype(np.uint8)
    image = np.repeat(np.repeat(coarse, 5, axis=0), 5, axis=1)
    masks = np.zeros((60, 80), np.uint8)
    masks[10:30, 10:40] = 2
    masks[25:50, 45:70] = 7
    return image, np.roll(image, 2, axis=1), masks


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes a node under test and its surroundings, see ``node_rig.Rig``."""
    from node_rig import rigs

    with rigs(monkeypatch) as make:
        yield make
