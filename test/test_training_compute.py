"""The arithmetic that training takes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_runs import render_cache, tiny

from diffusion_perception_ros.model.flops import transformer_flops
from diffusion_perception_ros.training import train
from diffusion_perception_ros.training.compute import FlopMeter
from diffusion_perception_ros.training.initialize import make_codec, make_transformer
from diffusion_perception_ros.training.log import read_rows
from diffusion_perception_ros.training.state import load_state, save_state


def test_the_meter_sees_every_sample() -> None:
    network = torch.nn.Linear(3, 5)
    meter = FlopMeter(network, sample_flops=30, num_processes=2)
    for samples in (4, 1):
        network(torch.zeros(samples, 3))
    assert meter.flops == 3 * 30 * 2 * 5


def test_a_run_logs_what_it_took(tmp_path: Path) -> None:
    """Whatever the batch: twelve samples in each of two parts of a step, and six when it is resumed."""
    config = tiny(steps=3)
    config = replace(
        config,
        data=replace(config.data, folder=render_cache(tmp_path / "pairs")),
        optimizer=replace(config.optimizer, accumulation=2),
        report=replace(config.report, log=1, validation=3),
    )
    train(config, tmp_path / "run")
    each = 3 * transformer_flops(make_transformer(config, make_codec(config)))
    smaller = replace(config, steps=4, batch_size=6, optimizer=replace(config.optimizer, accumulation=1))
    train(smaller, tmp_path / "run", resume=True)
    flops = [float(row["flops"]) for row in read_rows(tmp_path / "run" / "losses.csv")]
    assert flops == pytest.approx([24 * each, 48 * each, 72 * each, 78 * each], rel=1e-5)
    assert [float(row["flops"]) for row in read_rows(tmp_path / "run" / "validation.csv")] == [flops[2], flops[3]]
    assert load_state(tmp_path / "run" / "state.pt")["flops"] == 78 * each

    state = load_state(tmp_path / "run" / "state.pt")
    del state["flops"]
    save_state(tmp_path / "run" / "state.pt", state)
    train(replace(smaller, steps=5), tmp_path / "run", resume=True)
    assert math.isnan(float(read_rows(tmp_path / "run" / "losses.csv")[-1]["flops"]))
