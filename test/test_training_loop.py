"""Whole runs: what they write, that a killed one resumes, and how they end."""

from __future__ import annotations

import csv
import importlib.util
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from training_runs import CONFIGS, generalist, render_cache, tiny

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.training import GeneralistConfig, train
from diffusion_perception_ros.training.log import Log, read_rows
from diffusion_perception_ros.training.state import load_state, save_state

STEPS = 80


def write_config(folder: Path, pairs: Path, **changes: object) -> Path:
    """A file for a run of some seconds that checkpoints and logs often."""
    values = YAML(typ="safe").load((CONFIGS / "tiny.yaml").read_text())
    values |= {"steps": STEPS, **changes}
    values["data"]["folder"] = str(pairs)
    values["report"] |= {"log": 1, "checkpoint": 7, "validation": 1000, "sheet": 1000}
    values["optimizer"] |= {"name": "muon", "accumulation": 2}
    path = folder / "run.yaml"
    with path.open("w") as file:
        YAML().dump(values, file)
    return path


def start(config: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "diffusion_perception_ros", "train", str(config), "--out", str(out), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        command, env=environment, cwd=CONFIGS.parent.parent, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for_step(process: subprocess.Popen[str], out: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while len(curve(out)) < step:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.005)


def curve(out: Path) -> list[dict[str, str]]:
    """The loss curve, without times."""
    path = out / "losses.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "minutes"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_cache(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, pairs: Path) -> tuple[GeneralistConfig, Path]:
    """A run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    config = generalist(write_config(folder, pairs))
    torch.set_num_threads(1)
    outcome = train(config, folder / "out")
    assert (outcome.step, outcome.reason) == (STEPS, "finished")
    return config, folder / "out"


def test_a_killed_run_resumes_to_the_same_loss_curve(
    whole: tuple[GeneralistConfig, Path], pairs: Path, tmp_path: Path
) -> None:
    config, uninterrupted = whole
    out = tmp_path / "out"
    process = start(write_config(tmp_path, pairs), out)
    wait_for_step(process, out, STEPS // 3)
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL
    killed_at = len(curve(out))
    assert STEPS // 3 <= killed_at < STEPS
    saved = load_state(out / "state.pt")["step"]
    assert saved % 7 == 0
    assert saved <= killed_at

    outcome = train(config, out, resume=True)
    assert outcome.step == STEPS
    assert curve(out) == curve(uninterrupted)
    before, after = (load_state(folder / "state.pt") for folder in (uninterrupted, out))
    for part in ("network", "average"):
        for name, weight in before[part].items():
            assert torch.equal(weight, after[part][name]), name


def test_ctrl_c_saves_and_ends_with_one_sentence(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(write_config(tmp_path, pairs, steps=100_000), out)
    wait_for_step(process, out, 3)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    step = load_state(out / "state.pt")["step"]
    assert step == len(curve(out))
    last_line = stderr.strip().splitlines()[-1]
    assert last_line.startswith(f"{out}: interrupted at step {step} after")
    assert last_line.endswith("--resume goes on from there")
    assert "Traceback" not in stderr
    PerceptionPipeline.from_pretrained(out / "last")


def test_the_loss_falls(whole: tuple[GeneralistConfig, Path]) -> None:
    losses = [float(row["loss"]) for row in curve(whole[1])]
    assert len(losses) == STEPS
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_checkpoints_load_and_are_the_average(whole: tuple[GeneralistConfig, Path]) -> None:
    config, out = whole
    state = load_state(out / "state.pt")
    for name in ("best", "last"):
        pipe = PerceptionPipeline.from_pretrained(out / name)
        assert pipe.metadata == config.metadata()
        assert not pipe.metadata.is_random
        for key, weight in pipe.transformer.state_dict().items():
            assert torch.equal(weight, state["average"][key].half().float())
    assert any((state["average"][k] != v).any() for k, v in state["network"].items())
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    labels = np.zeros((48, 64), np.uint8)
    labels[10:30, 10:30] = 3
    for sampler, steps in (("ddim_trailing", 1), ("ddim_trailing", 4), ("dpm_solver", 2), ("one_step", 1)):
        output = pipe(image, image, labels, sampler=sampler, num_inference_steps=steps)
        assert output.depth_relative is not None
        assert output.flow is not None
        assert output.amodal is not None


def test_logs_and_sheets(whole: tuple[GeneralistConfig, Path]) -> None:
    out = whole[1]
    (row,) = read_rows(out / "validation.csv")
    names = {"abs_rel_1", "delta1_1", "epe_1", "epe_ratio_1", "iou_1", "iou_hidden_1"}
    assert row.keys() == {"step", "minutes", "flops", "badness"} | names
    assert all(math.isfinite(float(value)) for value in row.values())
    (sheet,) = (out / "sheets").iterdir()
    assert sheet.name == f"{STEPS:07d}.png"
    assert sheet.read_bytes().startswith(b"\x89PNG")
    kinds = {"depth_one_step", "depth_diffusion", "amodal_one_step", "flow_one_step", "flow_diffusion"}
    assert kinds | {"balance", "task_loss", "flops"} <= curve(out)[0].keys()


def test_a_finished_run_has_nothing_left_to_do(whole: tuple[GeneralistConfig, Path]) -> None:
    config, out = whole
    with pytest.raises(InputError, match="holds a run already; go on with --resume"):
        train(config, out)
    assert train(config, out, resume=True).step == STEPS


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file to resume from"):
        train(tiny(), tmp_path / "none", resume=True)


def test_resuming_another_network(whole: tuple[GeneralistConfig, Path]) -> None:
    config, out = whole
    wider = replace(config, model=replace(config.model, mlp_size=128))
    with pytest.raises(InputError, match="of other sizes; choose another output folder"):
        train(wider, out, resume=True)


def test_time_is_over(whole: tuple[GeneralistConfig, Path], tmp_path: Path) -> None:
    outcome = train(replace(whole[0], max_minutes=1e-6), tmp_path / "out")
    assert (outcome.step, outcome.reason) == (1, "time")
    assert load_state(tmp_path / "out" / "state.pt")["step"] == 1


def test_fine_tuning_starts_from_a_checkpoint(whole: tuple[GeneralistConfig, Path], tmp_path: Path) -> None:
    config, out = whole
    finer = replace(config, model=replace(config.model, init=out / "last"), max_minutes=1e-6)
    train(finer, tmp_path / "out")
    first = float(curve(tmp_path / "out")[0]["loss"])
    assert first < 0.85 * float(curve(out)[0]["loss"])
    with pytest.raises(InputError, match="its hidden_size is 32, but the run's is 64"):
        train(replace(finer, model=replace(finer.model, hidden_size=64)), tmp_path / "other")


def test_a_crash_while_saving_leaves_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.pt"
    save_state(path, {"step": 1})

    def crash(state: object, file: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", crash)
    with pytest.raises(OSError, match="disk full"):
        save_state(path, {"step": 2})
    assert load_state(path)["step"] == 1


def test_a_state_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="not readable as the state"):
        load_state(path)


def test_tensorboard_gets_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for what need not be installed."""
    got: list[tuple[Any, ...]] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            got.append((folder, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            got.append((name, value, step))

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=SummaryWriter))
    Log(tmp_path / "losses.csv", 4).write(5, {"loss": 0.5, "kl": 2.0})
    assert got == [(str(tmp_path / "tensorboard"), 5), ("losses/loss", 0.5, 5), ("losses/kl", 2.0, 5)]


def test_log_drops_what_comes_after_the_state(tmp_path: Path) -> None:
    path = tmp_path / "losses.csv"
    log = Log(path, 0)
    for step in (1, 2, 3):
        log.write(step, {"loss": 1 / step})
    with path.open("a") as file:
        file.write("4,")  # cut off by a crash
    text = path.read_text()
    Log(path, 3)
    assert path.read_text() == text.removesuffix("4,")
    Log(path, 2)
    assert [row["step"] for row in read_rows(path)] == ["1", "2"]
    assert text.startswith(path.read_text())
    Log(path, 0)
    assert not path.exists()


def test_a_log_takes_further_columns(tmp_path: Path) -> None:
    path = tmp_path / "losses.csv"
    Log(path, 0).write(1, {"loss": 0.5, "minutes": 1})
    log = Log(path, 1)
    log.write(2, {"loss": 0.25, "flops": 3e12})
    log.write(3, {"flops": 4e12})
    assert read_rows(path) == [
        {"step": "1", "loss": "0.5", "minutes": "1", "flops": ""},
        {"step": "2", "loss": "0.25", "minutes": "", "flops": "3e+12"},
        {"step": "3", "loss": "", "minutes": "", "flops": "4e+12"},
    ]
