"""A further task by configuration only: surface normals, which the released generalist was not trained for."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_runs import CONFIGS, generalist, render_cache

from diffusion_perception_ros import cli
from diffusion_perception_ros.evaluation.datasets import Scenes
from diffusion_perception_ros.evaluation.evaluate import evaluate, predict_with
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.sampling.settings import SamplingSettings
from diffusion_perception_ros.training import GeneralistConfig, train
from diffusion_perception_ros.training.initialize import make_codec, make_transformer

ENTRY = "  normals: {share: 1.0, kind: unit_vector, labels: [1005]}\n"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> GeneralistConfig:
    """The tiny run with one line more."""
    path = tmp_path_factory.mktemp("config") / "normals.yaml"
    path.write_text((CONFIGS / "tiny.yaml").read_text().replace("tasks:\n", "tasks:\n" + ENTRY))
    return generalist(path)


@pytest.fixture(scope="module")
def trained(config: GeneralistConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of some seconds."""
    pairs = render_cache(tmp_path_factory.mktemp("pairs"), normals=True)
    torch.set_num_threads(1)
    longer = replace(
        config,
        steps=60,
        data=replace(config.data, folder=pairs),
        optimizer=replace(config.optimizer, learning_rate=0.01, final_ratio=0.1, ema=0.9),
        report=replace(config.report, log=10, checkpoint=60, validation=60, validation_scenes=8, sheet=60),
    )
    out = tmp_path_factory.mktemp("run")
    assert train(longer, out).reason == "finished"
    return out


def test_the_network_has_room_for_the_label(config: GeneralistConfig) -> None:
    transformer = make_transformer(config, make_codec(config))
    assert transformer.config.num_labels == 1006
    assert transformer.config.patch_labels == [1000, 1001, 1002, 1003, 1005]


def test_angles_become_smaller_than_those_of_a_wall(config: GeneralistConfig, trained: Path) -> None:
    dataset = Scenes(8, height=32, width=32)
    pipe = PerceptionPipeline.from_pretrained(trained / "last")
    codec = make_codec(config)
    start = make_transformer(config, codec).eval()
    untrained = PerceptionPipeline(start, codec, config.diffusion.scheduler_config(), config.metadata())
    before, after = (evaluate(predict_with(p, SamplingSettings()), dataset, ("normals",)) for p in (untrained, pipe))
    angle = after.method["normals"]["mean"]
    assert angle < 0.7 * before.method["normals"]["mean"]
    assert angle < 0.8 * after.baselines["normals"]["facing_wall"]["mean"]
    assert after.method["normals"]["coverage"] > 0.9


def test_losses_and_validation_are_logged(trained: Path) -> None:
    with (trained / "losses.csv").open(newline="") as file:
        losses = list(csv.DictReader(file))
    for kind in ("one_step", "diffusion"):
        assert float(losses[-1][f"normals_{kind}"]) < 0.8 * float(losses[0][f"normals_{kind}"])
    with (trained / "validation.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert 0 < float(row["angle_1"]) < 60
    assert (trained / "sheets" / "0000060.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_prints_an_object_for_them(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--checkpoint", str(trained / "last"), "--device", "cpu", "--samples", "2", "--sequences", "0"]
    assert cli.main(["evaluate", *arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"depth", "flow", "amodal", "normals", "baselines", "settings"}
    assert set(result["baselines"]["normals"]) == {"mean_normal", "facing_wall", "floor_and_wall"}
    metrics = {"mean", "median", "within_11.25", "within_22.5", "within_30", "coverage", "samples"}
    assert set(result["normals"]) == metrics
