"""Power laws of training compute."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_runs import render_cache, tiny

from diffusion_perception_ros import cli
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.training import train
from diffusion_perception_ros.training.log import Log
from diffusion_perception_ros.training.scaling.frontier import measure_scaling, pareto_front
from diffusion_perception_ros.training.scaling.power_law import fit_power_law
from diffusion_perception_ros.training.scaling.runs import Point, read_curve

EXPONENT = -0.2


def law(flops: float) -> float:
    return float(30 * flops**EXPONENT)


def write_run(folder: Path, step_flops: float, steps: int = 200, loss: Callable[[float], float] = law) -> Path:
    """The logs of a run that does not waver."""
    losses, validation = Log(folder / "losses.csv", 0), Log(folder / "validation.csv", 0)
    for step in range(1, steps + 1):
        flops = step * step_flops
        losses.write(step, {"loss": loss(flops) + 0.01, "task_loss": loss(flops), "flops": flops})
        if step % 10 == 0:
            metrics = {"abs_rel_4": 9, "abs_rel_1": 2, "iou_1": 1 - loss(flops) / 3, "iou_hidden_1": np.nan}
            validation.write(step, {"flops": flops, "badness": 1, **metrics})
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    for name in ("small", "middle", "large"):
        (tmp_path / name).mkdir()
    return [write_run(tmp_path / name, flops) for name, flops in (("small", 1e9), ("middle", 6e9), ("large", 4e10))]


@settings(max_examples=50, deadline=None)
@given(st.floats(-1.5, -0.005), st.floats(1e-3, 1e3), st.integers(3, 30), st.floats(0.3, 6), st.floats(6, 24))
def test_an_exact_law_is_found(exponent: float, height: float, count: int, decades: float, start: float) -> None:
    flops = np.logspace(start, start + decades, count)
    fit = fit_power_law(flops, height * (flops / flops[0]) ** exponent)
    assert fit.exponent == pytest.approx(exponent, rel=1e-5, abs=1e-6)
    assert fit(flops) == pytest.approx(height * (flops / flops[0]) ** exponent, rel=1e-5)
    assert fit.constant == 0
    assert fit.r_squared == pytest.approx(1, abs=1e-5)
    assert fit.points == count


@settings(max_examples=30, deadline=None)
@given(st.floats(-1, -0.2), st.floats(0.2, 2), st.floats(1e-3, 1e3), st.integers(8, 30))
def test_a_constant_is_found_where_there_is_one(exponent: float, share: float, height: float, count: int) -> None:
    flops = np.logspace(12, 15, count)
    values = height * (share + (flops / flops[0]) ** exponent)
    fit = fit_power_law(flops, values)
    assert fit.constant == pytest.approx(height * share, rel=0.02)
    assert fit.exponent == pytest.approx(exponent, rel=0.05)
    assert fit(flops) == pytest.approx(values, rel=1e-2)


def test_noise_is_no_constant() -> None:
    rng, flops = np.random.default_rng(0), np.logspace(12, 14, 12)
    fits = [fit_power_law(flops, flops**-0.1 * np.exp(rng.normal(0, 0.02, 12))) for _ in range(50)]
    assert sum(fit.constant > 0 for fit in fits) <= 5
    assert np.mean([fit.exponent for fit in fits if fit.constant == 0]) == pytest.approx(-0.1, abs=0.005)
    assert all(fit.r_squared < 1 for fit in fits)


def test_what_cannot_be_fitted() -> None:
    with pytest.raises(InputError, match="needs 3 points at least, and there are 2"):
        fit_power_law([1, 2], [2, 1])
    with pytest.raises(InputError, match="took the same compute"):
        fit_power_law([5, 5, 5], [3, 2, 1])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1))
def test_no_point_beats_the_front(pairs: list[tuple[int, int]]) -> None:
    points = [Point("a", i, flops, value) for i, (flops, value) in enumerate(pairs)]
    front = pareto_front(points)
    for point in points:
        dominated = any(
            other.flops <= point.flops
            and other.value <= point.value
            and (other.flops, other.value) != (point.flops, point.value)
            for other in points
        )
        assert ((point.flops, point.value) in [(p.flops, p.value) for p in front]) == (not dominated)
    assert [p.flops for p in front] == sorted({p.flops for p in front})


def test_a_curve_is_without_warm_up_and_one_point_a_bin(tmp_path: Path) -> None:
    log = Log(tmp_path / "losses.csv", 0)
    for step in range(1, 101):
        log.write(step, {"loss": 50 if step <= 10 else step, "flops": 1e9 * step})
    curve = read_curve(tmp_path / "losses.csv", "name", "loss")
    assert max(point.value for point in curve) == curve[-1].value
    assert len(curve) == 11
    assert (curve[-1].step, curve[-1].run) == (100, "name")
    assert curve[-1].value == np.mean(range(90, 101))
    assert curve[-1].flops == pytest.approx(np.exp(np.mean(np.log(range(90, 101)))) * 1e9)


def test_the_command_finds_the_law_of_synthetic_logs(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    out = runs[0].parent / "deep" / "out"
    arguments = ["scaling", *map(str, runs), "--out", str(out)]
    assert cli.main([*arguments, "--json"]) == 0
    printed = capsys.readouterr().out
    fits = json.loads(printed)["fits"]
    assert json.loads((out / "scaling.json").read_text()) == json.loads(printed)
    assert list(fits) == ["loss", "abs_rel_4", "iou_1"]  # of hidden parts, nothing could be judged
    for name, factor in (("loss", 1), ("iou_1", 1 / 3)):
        assert fits[name]["exponent"] == pytest.approx(EXPONENT, abs=1e-3)
        assert fits[name]["coefficient"] == pytest.approx(30 * factor, rel=0.03)
        assert fits[name]["constant"] == 0
        assert fits[name]["r_squared"] > 0.9999
    assert fits["abs_rel_4"] is None
    with (out / "scaling.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["column"] == "loss"]
    assert {row["run"] for row in rows} == {"small", "middle", "large"}
    assert sum(row["fitted"] == "True" for row in rows) == fits["loss"]["points"]
    picture = cv2.imread(str(out / "scaling.png"))
    assert picture is not None
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20

    assert cli.main(arguments) == 0
    table = capsys.readouterr().out
    assert "through the compute frontier of 3 runs" in table
    assert "-0.2000" in next(line for line in table.splitlines() if line.startswith("training loss"))
    assert "1 of 3 points that a fit needs" in table


def test_the_ends_alone(runs: list[Path]) -> None:
    scaling = measure_scaling(runs, final=True)["loss"]
    assert [(point.run, point.step) for point in scaling.fitted] == [("small", 200), ("middle", 200), ("large", 200)]
    assert scaling.law is not None
    assert scaling.law.exponent == pytest.approx(EXPONENT, abs=1e-3)


def test_folders_of_one_name_stay_apart(tmp_path: Path) -> None:
    for part in ("a", "b"):
        (tmp_path / part / "run").mkdir(parents=True)
        write_run(tmp_path / part / "run", 1e9)
    names = {point.run for point in measure_scaling([tmp_path / "a/run", tmp_path / "b/run"])["loss"].points}
    assert names == {str(tmp_path / "a/run"), str(tmp_path / "b/run")}


def spoil(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("spoiled", "sentence"),
    [
        (lambda run: (run / "losses.csv").unlink(), "losses.csv: no log of a training run; name folders that `train`"),
        (lambda run: spoil(run / "losses.csv", "flops", "flips"), "losses.csv lacks a column flops or loss"),
        (lambda run: spoil(run / "losses.csv", "task_loss", "job_loss"), "have different losses (job_loss, task_loss)"),
        (lambda run: spoil(run / "losses.csv", "\n200,", "\n200,1,-0.5,2e11\n201,"), "task_loss is -0.5 at step 200"),
        (lambda run: spoil(run / "losses.csv", "\n200,", "\n200,1,nan,2e11\n201,"), "task_loss is nan at step 200"),
        (lambda run: spoil(run / "losses.csv", "\n200,", "\n200,1,0.1,0\n201,"), "flops is 0 at step 200"),
        (lambda run: spoil(run / "losses.csv", "\n200,", "\nlast,"), "losses.csv: a row has no number for step, flops"),
        (lambda run: spoil(run / "validation.csv", "\n200,", "\n200,2e11,1,9,9,1.0,nan\n201,"), "1 - iou_1 is 0 at"),
    ],
)  # fmt: skip
def test_errors_are_one_sentence(
    runs: list[Path], spoiled: Callable[[Path], None], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoiled(runs[1])
    assert cli.main(["scaling", *map(str, runs), "--out", str(runs[0].parent / "out")]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.startswith("diffusion-perception: error: ")
    assert error.count("\n") == 1
    assert not (runs[0].parent / "out").exists()


def test_too_few_points(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the loss has 2 points to fit, and a power law needs 3; name more runs"):
        measure_scaling([write_run(tmp_path, 1e9, steps=2)])
    with pytest.raises(InputError, match="the loss has 1 points to fit"):
        measure_scaling([tmp_path], final=True)


def test_a_folder_that_cannot_be_written(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["scaling", *map(str, runs), "--out", str(runs[0] / "losses.csv")]) == 2
    assert "losses.csv cannot be written: " in capsys.readouterr().err


def test_without_matplotlib(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["scaling", *map(str, runs)]) == 2
    assert "the plot needs matplotlib; install it with" in capsys.readouterr().err


def test_two_runs_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny(steps=24)
    config = replace(
        config,
        data=replace(config.data, folder=render_cache(tmp_path / "pairs")),
        report=replace(config.report, log=1, validation=6, checkpoint=24, sheet=24),
    )
    wider = replace(config, model=replace(config.model, hidden_size=64, num_layers=3))
    train(config, tmp_path / "narrow")
    train(wider, tmp_path / "wide")
    arguments = ["scaling", str(tmp_path / "narrow"), str(tmp_path / "wide"), "--out", str(tmp_path / "out"), "--json"]
    assert cli.main(arguments) == 0
    fits = json.loads(capsys.readouterr().out)["fits"]
    assert list(fits) == ["loss", "abs_rel_1", "epe_ratio_1", "iou_1", "iou_hidden_1"]
    assert fits["loss"]["exponent"] < 0
    assert (tmp_path / "out" / "scaling.png").is_file()
