from __future__ import annotations

import csv
import sys
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from diffusion_perception_ros import cli
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.evaluation.datasets import Scenes
from diffusion_perception_ros.evaluation.evaluate import Evaluation
from diffusion_perception_ros.evaluation.plot import draw_sweep
from diffusion_perception_ros.evaluation.plot_labels import place_labels
from diffusion_perception_ros.evaluation.sweep import (
    SCHEDULES,
    Measurement,
    Setting,
    best_baseline,
    conclusion,
    measure,
    pareto_front,
    plan,
    with_schedule,
)
from diffusion_perception_ros.evaluation.sweep_files import sweep_table
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.sampling.settings import SamplingSettings


def measurement(milliseconds: float, abs_rel: float, spread: float = 0.0, steps: int = 1) -> Measurement:
    each = [{"abs_rel": abs_rel + spread}, {"abs_rel": abs_rel - spread}] * 4
    evaluation = Evaluation(
        {"depth": {"abs_rel": abs_rel, "samples": 8}}, {"depth": {"plane": {"abs_rel": 0.3}}}, {"depth": each}
    )
    return Measurement(Setting("ddim_trailing", "scaled_linear", steps, 1), milliseconds, evaluation)


def test_a_schedule_changes_the_noise_and_nothing_else(pipe: PerceptionPipeline) -> None:
    assert with_schedule(pipe, "scaled_linear") is pipe
    changed = with_schedule(pipe, "squaredcos_cap_v2")
    assert changed.transformer is pipe.transformer
    assert changed.codec is pipe.codec
    assert changed.scheduler_config == {
        **pipe.scheduler_config,
        "beta_schedule": "squaredcos_cap_v2",
        "trained_betas": None,
    }
    assert pipe.scheduler_config["beta_schedule"] == "scaled_linear"
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    before, after = (p(image, num_inference_steps=2).depth_relative for p in (pipe, changed))
    assert before is not None
    assert after is not None
    assert not np.array_equal(before, after)


def test_the_plan_leaves_out_what_is_impossible(pipe: PerceptionPipeline) -> None:
    samplers = ("ddim_trailing", "one_step", "one_step_genpercept")
    settings, skipped = plan(pipe, samplers, SCHEDULES, (1, 2), (1, 4), flip_members=False)
    assert [setting.steps * setting.ensemble for setting in settings] == sorted(
        setting.steps * setting.ensemble for setting in settings
    )
    by_sampler = {name: [s for s in settings if s.sampler == name] for name in samplers}
    assert len(by_sampler["ddim_trailing"]) == 3 * 2 * 2
    assert {(s.schedule, s.steps, s.ensemble) for s in by_sampler["one_step"]} == {(s, 1, 1) for s in SCHEDULES}
    assert by_sampler["one_step_genpercept"] == [Setting("one_step_genpercept", "scaled_linear", 1, 1)]
    assert any("takes exactly one step, not 2" in reason for reason in skipped)
    assert any("members would be identical" in reason for reason in skipped)
    assert any(
        "does not use the checkpoint's noise schedule; it ran with scaled_linear" in reason for reason in skipped
    )
    assert len(settings) + sum(len(each) for each in skipped.values()) == 3 * 3 * 2 * 2 - 2 * (2 * 2 - 1)


def test_mirrored_members_make_ensembles_of_deterministic_samplers(pipe: PerceptionPipeline) -> None:
    settings, _ = plan(pipe, ("one_step",), ("linear",), (1,), (1, 2), flip_members=True)
    assert [setting.ensemble for setting in settings] == [1, 2]


def test_unknown_names(pipe: PerceptionPipeline) -> None:
    with pytest.raises(InputError, match="sampler 'euler' is unknown"):
        plan(pipe, ("euler",), ("linear",), (1,), (1,), flip_members=False)
    with pytest.raises(InputError, match="noise schedule 'cosine' is unknown; use one of linear"):
        plan(pipe, ("ddim",), ("cosine",), (1,), (1,), flip_members=False)


def test_measuring(pipe: PerceptionPipeline) -> None:
    samples = list(Scenes(2, height=32, width=32))
    done: list[None] = []
    setting = Setting("ddim_trailing", "linear", 2, 3)
    got = measure(
        pipe, setting, SamplingSettings(seed=3), samples, with_baselines=True, progress=lambda: done.append(None)
    )
    assert got.setting == setting
    assert got.milliseconds > 0
    assert len(done) == len(got.evaluation.each["depth"]) == 2
    again = measure(pipe, setting, SamplingSettings(seed=3), samples, with_baselines=False, progress=lambda: None)
    assert again.evaluation.method == got.evaluation.method
    other = measure(pipe, Setting("ddim_trailing", "linear", 1, 1), SamplingSettings(), samples, False, lambda: None)
    assert other.evaluation.method != got.evaluation.method


POINTS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=20)


@given(POINTS)
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    measurements = [measurement(x, y) for x, y in points]
    front = {(m.milliseconds, m.cost("depth")) for m in pareto_front(measurements, "depth")}
    unbeaten = {(x, y) for x, y in points if not any((a <= x and b <= y) and (a, b) != (x, y) for a, b in points)}
    assert front == unbeaten


def test_larger_masks_overlap_is_better() -> None:
    def of(milliseconds: float, iou: float) -> Measurement:
        evaluation = Evaluation({"amodal": {"iou": iou}}, {}, {"amodal": [{"iou": iou}]})
        return Measurement(Setting("ddim", "linear", 1, 1), milliseconds, evaluation)

    slow, fast, worse = of(2, 0.9), of(1, 0.8), of(3, 0.85)
    assert pareto_front([slow, worse, fast], "amodal") == [fast, slow]
    assert best_baseline({"visible_mask": {"iou": 0.6}, "convex_hull": {"iou": 0.7}}, "amodal") == ("convex_hull", 0.7)
    assert best_baseline({"plane": {"abs_rel": 0.3}, "mean_depth": {"abs_rel": 0.4}}, "depth") == ("plane", 0.3)


def test_the_conclusion_says_what_is_gained() -> None:
    fast = measurement(10, 0.2)
    assert conclusion([fast], "depth") == (
        "depth: more compute buys nothing; the fastest setting has the best AbsRel, 0.200."
    )
    assert conclusion([fast, measurement(40, 0.15, steps=4)], "depth") == (
        "depth: AbsRel is 0.150 instead of 0.200 (25.0% better, ± 0.0%) for 4.0 times the time "
        "(ddim_trailing, scaled_linear, 4 steps)."
    )
    assert "buys next to nothing" in conclusion([fast, measurement(40, 0.199)], "depth")
    # Over eight samples the gain is 0.05 with a standard error of 0.5 / sqrt(7).
    assert "(difference 0.050 ± 0.189)" in conclusion([fast, measurement(40, 0.15, spread=0.5)], "depth")


def test_the_table_has_the_front() -> None:
    text = sweep_table([measurement(10, 0.2), measurement(40, 0.15, steps=4), measurement(30, 0.25, steps=3)])
    heading, *rows = text.splitlines()
    assert heading.split()[-2:] == ["depth", "AbsRel"]
    assert [row.split() for row in rows] == [
        ["ddim_trailing", "scaled_linear", "1", "1", "10.0", "0.200*"],
        ["ddim_trailing", "scaled_linear", "4", "1", "40.0", "0.150*"],
    ]


@pytest.mark.parametrize("measurements", [[measurement(10, 0.2)], [measurement(10, 0.2), measurement(1000, 0.1)]])
def test_the_plot_can_be_drawn(measurements: list[Measurement], tmp_path: Path) -> None:
    draw_sweep(tmp_path / "sweep.png", "a title", measurements, "scaled_linear")
    picture = cv2.imread(str(tmp_path / "sweep.png"))
    assert picture is not None
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


@pytest.mark.parametrize("seed", range(4))
def test_labels_cover_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = [*map(tuple, rng.uniform(1, 9, (20, 2))), *map(tuple, rng.uniform(4.8, 5.2, (5, 2)))]
    figure = Figure(figsize=(4, 4))
    axes = figure.add_subplot(xlim=(0, 10), ylim=(0, 10))
    labels = [(f"{i}×4", x, y) for i, (x, y) in enumerate(points)]
    place_labels(axes, labels, points, [[(0, 5), (10, 5)]], 6, above=seed % 2 == 0, color="black")
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # without the lines that lead to points
    assert len(boxes) > 20
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    for x, y in axes.transData.transform(points):
        assert not any(box.contains(x, y) for box in boxes)
    _, line = axes.transData.transform((0, 5))
    assert not any(box.y0 < line < box.y1 for box in boxes)
    assert all(axes.bbox.containsx(x) for box in boxes for x in (box.x0, box.x1))


def test_points_that_are_one_to_the_eye_have_one_label() -> None:
    axes = Figure().add_subplot(xlim=(0, 10), ylim=(0, 10))
    points = [(5.0, 5.0), (5.01, 5.0), (2.0, 2.0)]
    place_labels(axes, [("1×1", *point) for point in points], points, [], 6, above=True, color="black")
    assert len(axes.texts) == 2
    above, below = (text.get_window_extent() for text in axes.texts)
    assert above.y0 > axes.transData.transform((5, 5))[1]
    assert below.y0 > axes.transData.transform((2, 2))[1]


ARGUMENTS = ["sweep", "--samples", "2", "--size", "32x32", "--device", "cpu", "--steps", "1,2", "--ensembles", "1"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a" / "sweep"
    arguments = [*ARGUMENTS, "--samplers", "ddim_trailing,one_step", "--schedules", "linear,scaled_linear"]
    assert cli.main([*arguments, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "skipped 2: sampler 'one_step' takes exactly one step, not 2" in printed.err
    assert "all 6 combinations are in" in printed.out
    assert [line.split(":")[0] for line in printed.out.splitlines()[-3:]] == ["depth", "flow", "amodal"]
    with (out / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert {row["own_schedule"] for row in rows if row["schedule"] == "scaled_linear"} == {"True"}
    assert {row["own_schedule"] for row in rows if row["schedule"] == "linear"} == {"False"}
    assert all(float(row["milliseconds"]) > 0 and float(row["depth_abs_rel"]) > 0 for row in rows)
    assert (out / "sweep.png").stat().st_size > 10_000
    assert cli.main([*arguments, "--out", str(out)]) == 2
    assert "holds another sweep; choose another folder or replace it with --overwrite" in capsys.readouterr().err


def test_an_interrupted_sweep_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def stop_after_two(*arguments: object) -> Measurement:
        calls.append(arguments)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return measurement(10, 0.2)

    monkeypatch.setattr("diffusion_perception_ros.evaluation.sweep.measure", stop_after_two)
    assert cli.main([*ARGUMENTS, "--out", str(tmp_path)]) == 130
    assert len((tmp_path / "sweep.csv").read_text().splitlines()) == 3


def test_without_matplotlib_it_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main([*ARGUMENTS, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == (
        "diffusion-perception: error: the plot needs matplotlib; install it with: "
        "pip install 'diffusion_perception_ros[plot]'.\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [["--steps", "0"], ["--steps", "1,x"], ["--ensembles", ""]])
def test_lists_that_cannot_be_parsed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["sweep", *arguments])
    assert stopped.value.code == 2
    assert f"argument {arguments[0]}" in capsys.readouterr().err
