from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import shared
from numpy.typing import NDArray

from diffusion_perception_ros import cli
from diffusion_perception_ros.cli.dataset_options import DATASETS
from diffusion_perception_ros.evaluation import baselines
from diffusion_perception_ros.evaluation.datasets import FlyingChairs, Pix2Gestalt, Scenes
from diffusion_perception_ros.evaluation.evaluate import Evaluation, evaluate, predict_with
from diffusion_perception_ros.evaluation.metrics import affine_invariant_depth_metrics
from diffusion_perception_ros.evaluation.report import Report
from diffusion_perception_ros.evaluation.samples import DepthTruth, FlowTruth, InstanceTruth, NormalTruth, Sample
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.predictions import AmodalInstance, PerceptionOutput
from diffusion_perception_ros.sampling.settings import SamplingSettings

TASKS = ("depth", "flow", "amodal")


def sample(seed: int = 0, side: int = 16, hidden: bool = True) -> Sample:
    """Random, with two objects of which the first may be partly hidden."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (2, side, side, 3)).astype(np.uint8)
    depth = rng.uniform(1, 5, (side, side)).astype(np.float32)
    flow = rng.uniform(-4, 4, (side, side, 2)).astype(np.float32)
    visible = np.zeros((2, side, side), bool)
    visible[0, 2:6, 2:6], visible[1, 9:12, 9:12] = True, True
    amodal = visible.copy()
    amodal[0, 2:6, 2:10] |= hidden
    return Sample(
        f"sample {seed}",
        images[0],
        images[1],
        DepthTruth(depth, depth < 4.5),
        FlowTruth(flow, depth > 1.5),
        [InstanceTruth(v, a) for v, a in zip(visible, amodal, strict=True)],
    )


def know(sample: Sample, tasks: Sequence[str]) -> PerceptionOutput:
    """The truth, as a pipeline would put it."""
    return PerceptionOutput(
        depth_relative=sample.depth.depth * np.float32(0.1) if "depth" in tasks and sample.depth else None,
        flow=sample.flow.flow if "flow" in tasks and sample.flow else None,
        amodal=[
            AmodalInstance(number, instance.visible, instance.amodal)
            for number, instance in enumerate(sample.instances, 1)
        ],
    )


def test_baselines_of_depth() -> None:
    """A tilted plane is a plane; the constant becomes the mean."""
    rows, columns = np.indices((12, 16)).astype(np.float32)
    depth = 3 + rows * np.float32(0.2) - columns * np.float32(0.1)
    truth = DepthTruth(depth, (rows > 2) & (columns < 12))
    arguments = torch.from_numpy(depth), torch.from_numpy(truth.valid)
    got = affine_invariant_depth_metrics(torch.from_numpy(baselines.plane(truth)), *arguments)
    assert got["abs_rel"] == pytest.approx(0, abs=1e-6)
    got = affine_invariant_depth_metrics(torch.from_numpy(baselines.mean_depth(truth)), *arguments)
    valid = depth[truth.valid]
    assert got["abs_rel"] == pytest.approx(np.mean(np.abs(valid - valid.mean()) / valid), rel=1e-5)


def test_baselines_of_flow() -> None:
    """On a smooth picture that moves by (3, 2), both methods find the motion."""
    rows, columns = np.indices((96, 128))
    wide = np.stack([np.sin(columns / 5) * np.cos(rows / 7), np.sin((columns + rows) / 6), np.cos(rows / 4)], axis=-1)
    picture = ((wide + 1) * 127).astype(np.uint8)
    moved = np.roll(picture, (2, 3), axis=(0, 1))
    inside = (slice(20, -20), slice(20, -20))
    for method in (baselines.dis, baselines.farneback):
        assert np.allclose(np.median(method(picture, moved)[inside], axis=(0, 1)), (3, 2), atol=0.2)
    assert not baselines.zero_flow(picture, moved).any()
    tiny = picture[:8, :8]
    assert np.isnan(baselines.dis(tiny, tiny)).all()


def test_baselines_of_masks() -> None:
    visible = np.zeros((20, 20), bool)
    visible[5:15, 4:6] = visible[13:15, 4:14] = True
    truth = InstanceTruth(visible, visible)
    hull = baselines.convex_hull(truth)
    assert baselines.visible_mask(truth) is visible
    assert not (visible & ~hull).any()
    assert hull[10, 7]
    assert not hull[6, 12]
    one_pixel = np.zeros((20, 20), bool)
    one_pixel[3, 7] = True
    assert np.array_equal(baselines.convex_hull(InstanceTruth(one_pixel, one_pixel)), one_pixel)


def test_baselines_of_normals() -> None:
    """A floor below a wall, seen by a camera that looks straight ahead; the sky above has none."""
    normals = np.zeros((8, 6, 3), np.float32)
    normals[2:4], normals[4:] = (0, 0, -1), (0, -1, 0)
    truth = NormalTruth.where_known(normals)
    assert truth.valid.sum() == 36
    np.testing.assert_allclose(baselines.mean_normal(truth)[3, 3], np.array([0, -2, -1]) / np.sqrt(5), rtol=1e-6)
    assert (baselines.facing_wall(truth) == [0, 0, -1]).all()
    assert np.array_equal(baselines.floor_and_wall(truth)[2:], normals[2:])


def test_normals_are_evaluated_where_the_checkpoint_sees_them() -> None:
    truth = next(iter(Scenes(1, height=32, width=32)))
    assert truth.normals is not None

    def predict(sample: Sample, tasks: Sequence[str]) -> PerceptionOutput:
        assert sample.normals is not None
        return PerceptionOutput(extra={"normals": sample.normals.normals} if "normals" in tasks else {})

    evaluation = evaluate(predict, [truth], ("normals",))
    assert evaluation.method["normals"]["mean"] == pytest.approx(0, abs=0.1)
    assert evaluation.method["normals"]["within_11.25"] == 1
    assert set(evaluation.baselines["normals"]) == {"mean_normal", "facing_wall", "floor_and_wall"}
    constant = evaluation.baselines["normals"]
    assert all(10 < constant[name]["mean"] < 90 for name in ("mean_normal", "facing_wall"))
    header, columns, own, *rows = Report("mine", evaluation, {}).to_text().splitlines()
    assert header == "surface normals (1 samples)"
    assert columns.endswith(" coverage %")
    assert own.split() == ["mine", "0.0", "0.0", "100.0", "100.0", "100.0", "100.0"]
    assert len(rows) == 3
    assert "normals" not in evaluate(predict, [truth], ("depth",), with_baselines=False).method


def test_baselines_on_real_pairs() -> None:
    pairs = FlyingChairs(shared("toy_data", "FlyingChairs_small"))
    masks = Pix2Gestalt(shared("toy_data", "Pix2Gestalt_small"))
    flow = evaluate(know, pairs, TASKS).baselines["flow"]
    assert flow["dis"]["epe"] < 0.6 * flow["zero"]["epe"]
    assert flow["farneback"]["epe"] < flow["zero"]["epe"] == flow["dis"]["epe_zero"]
    amodal = evaluate(know, masks, TASKS).baselines["amodal"]
    assert amodal["convex_hull"]["iou"] > amodal["visible_mask"]["iou"]
    assert amodal["visible_mask"]["iou_hidden"] == 0 < amodal["convex_hull"]["iou_hidden"]


def test_the_truth_is_perfect() -> None:
    method = evaluate(know, [sample(0), sample(1)], TASKS).method
    assert method["depth"] == pytest.approx(
        {"abs_rel": 0, "delta1": 1, "delta2": 1, "delta3": 1, "rmse": 0, "silog": 0, "samples": 2}, abs=1e-4
    )
    zero = method["flow"]["epe_zero"]
    assert method["flow"] == {"epe": 0, "epe_zero": zero, "fl_all": 0, "coverage": 1, "samples": 2}
    assert method["amodal"] == {"iou": 1, "iou_hidden": 1, "samples": 2, "samples_hidden": 2}


def test_averages_are_of_instances_then_of_samples() -> None:
    """The visible masks: the first object is half hidden, the second not at all."""

    def see(sample: Sample, tasks: Sequence[str]) -> PerceptionOutput:
        seen = [AmodalInstance(k, i.visible, i.visible) for k, i in enumerate(sample.instances, 1)]
        return PerceptionOutput(amodal=seen)

    evaluation = evaluate(see, [sample(0), sample(1, hidden=False)], ("amodal",))
    expected = {"iou": (0.75 + 1) / 2, "iou_hidden": 0, "samples": 2, "samples_hidden": 1}
    assert evaluation.method["amodal"] == expected
    assert evaluation.baselines["amodal"]["visible_mask"] == expected
    assert [metrics["iou"] for metrics in evaluation.each["amodal"]] == [0.75, 1]
    evaluation = evaluate(see, [sample(0, hidden=False)], ("amodal",))
    assert math.isnan(evaluation.method["amodal"]["iou_hidden"])


def test_only_what_is_known_and_asked_for_is_predicted() -> None:
    whole, asked = sample(0), []
    still = Sample("still", whole.image, depth=whole.depth)
    blind = Sample("blind", whole.image, depth=DepthTruth(np.zeros((16, 16), np.float32), np.zeros((16, 16), bool)))

    def predict(sample: Sample, tasks: Sequence[str]) -> PerceptionOutput:
        asked.append((sample.name, tuple(tasks)))
        return know(sample, tasks)

    evaluation = evaluate(predict, [whole, still, blind], ("flow", "depth", "normals"))
    assert asked == [("sample 0", ("depth", "flow")), ("still", ("depth",))]
    assert set(evaluation.method) == set(evaluation.baselines) == {"depth", "flow"}
    assert (evaluation.method["depth"]["samples"], evaluation.method["flow"]["samples"]) == (2, 1)
    assert evaluate(predict, [whole], ("depth",), with_baselines=False).baselines == {"depth": {}}


def test_flicker_stands_beside_that_of_the_truth() -> None:
    dataset = Scenes(1, height=32, width=32, sequences=1)
    evaluation = evaluate(know, [], ("depth",), dataset.sequences())
    flicker = evaluation.method["temporal"]["flicker"]
    assert flicker == pytest.approx(evaluation.baselines["temporal"]["ground_truth"]["flicker"], rel=1e-4)

    def swing(sample: Sample, tasks: Sequence[str]) -> PerceptionOutput:
        assert sample.depth is not None
        odd = int(sample.name[-1]) % 2
        return PerceptionOutput(depth_relative=sample.depth.depth * np.float32(1 + odd))

    assert evaluate(swing, [], ("depth",), dataset.sequences()).method["temporal"]["flicker"] > 2 * flicker


def test_a_pipeline_is_asked_as_sampling_says(pipe: PerceptionPipeline) -> None:
    sampling = SamplingSettings(
        num_inference_steps=2, sampler="ddim_trailing", ensemble_size=3, flip_members=True, seed=5
    )
    got = predict_with(pipe, sampling)(sample(0), TASKS)
    want = pipe(
        sample(0).image,
        sample(0).next_image,
        sample(0).labels,
        num_inference_steps=2,
        sampler="ddim_trailing",
        ensemble_size=3,
        flip_members=True,
        seed=5,
    )
    for field in ("depth_relative", "depth_uncertainty", "flow"):
        assert np.array_equal(getattr(got, field), getattr(want, field), equal_nan=True)
    assert got.amodal is not None
    assert [len(got.amodal), got.amodal[1].id] == [2, 2]
    assert predict_with(pipe, sampling)(sample(0), ("depth",)).flow is None


def test_json_has_no_nan() -> None:
    evaluation = Evaluation({"amodal": {"iou": 1, "iou_hidden": math.nan}}, {"amodal": {}}, {})
    report = json.loads(Report("x", evaluation, {"samples": 1}).to_json(), parse_constant=pytest.fail)
    assert report == {
        "amodal": {"iou": 1, "iou_hidden": None},
        "baselines": {"amodal": {}},
        "settings": {"samples": 1},
    }


def test_table() -> None:
    text = Report("mine", evaluate(know, [sample(0), sample(1, hidden=False)], TASKS), {}).to_text()
    depth, flow, amodal = text.split("\n\n")
    assert depth.startswith("depth after least-squares scale and shift (2 samples)\n")
    assert depth.splitlines()[2].split() == ["mine", "0.000", "1.000", "1.000", "1.000", "0.000", "0.0"]
    assert [line.split("  ")[0] for line in flow.splitlines()[2:]] == ["mine", "zero", "farneback", "dis"]
    assert flow.splitlines()[3].split()[2] == flow.splitlines()[3].split()[4] == "100.0"
    assert amodal.splitlines()[0] == "amodal masks (2 samples, 1 with a hidden part)"
    assert amodal.splitlines()[3].split() == ["visible", "mask", "0.875", "0.000"]


SMALL = ["--samples", "2", "--size", "48x32", "--sequences", "1", "--device", "cpu"]


def run_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert cli.main(["evaluate", *arguments, "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    result: dict[str, Any] = json.loads(printed.out)
    return result


def test_the_command_prints_one_object_and_nothing_else() -> None:
    command = [sys.executable, "-m", "diffusion_perception_ros", "evaluate", "--json", *SMALL, "--steps", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert done.stderr == ""
    assert set(result) == {"depth", "flow", "amodal", "temporal", "baselines", "settings"}
    assert {"abs_rel", "delta1", "delta2", "delta3", "rmse", "silog", "samples"} == set(result["depth"])
    assert {"epe", "epe_zero", "fl_all", "coverage", "samples"} == set(result["flow"])
    assert {"iou", "iou_hidden", "samples", "samples_hidden"} == set(result["amodal"])
    assert {task: set(named) for task, named in result["baselines"].items()} == {
        "depth": {"mean_depth", "plane"},
        "flow": {"zero", "farneback", "dis"},
        "amodal": {"visible_mask", "convex_hull"},
        "temporal": {"ground_truth"},
    }
    assert result["baselines"]["flow"]["zero"]["epe"] == result["flow"]["epe_zero"]
    expected = {"dataset": "scenes", "seed": 900_000_000, "width": 48, "height": 32, "samples": 2, "steps": 1}
    assert expected.items() <= result["settings"].items()
    assert "least-squares" in result["settings"]["depth_alignment"]


def test_equal_runs_are_equal(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_json(SMALL, capsys) == run_json(SMALL, capsys)
    other = run_json([*SMALL, "--seed", "900000100", "--noise-seed", "4"], capsys)
    assert other["settings"]["seed"] == 900_000_100
    assert other["settings"]["noise_seed"] == 4


@pytest.mark.parametrize(
    ("dataset", "folder", "tasks"),
    [
        ("hypersim", "toy_data/Hypersim_small", {"depth"}),
        ("chairs", "toy_data/FlyingChairs_small", {"flow"}),
        ("pix2gestalt", "toy_data/Pix2Gestalt_small", {"amodal"}),
        ("bag", "bags/hypersim_depth_mcap", {"depth"}),
    ],
)
def test_real_datasets(dataset: str, folder: str, tasks: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    path = shared(*folder.split("/"))
    result = run_json(["--dataset", dataset, "--path", str(path), "--samples", "1", "--device", "cpu"], capsys)
    assert result.keys() == tasks | {"baselines", "settings"}
    assert result["settings"]["path"] == str(path)
    assert result["settings"]["samples"] == 1


def test_the_table_says_that_weights_are_random(capsys: pytest.CaptureFixture[str], pipe: PerceptionPipeline) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffusion_perception_ros.cli.dataset_options.load_pipeline", lambda *arguments: pipe)
        assert cli.main(["evaluate", *SMALL]) == 0
    printed = capsys.readouterr()
    assert "depth after least-squares scale and shift (2 samples)" in printed.out
    assert "depth over time, one scale and shift per sequence (1 sequences)" in printed.out
    assert "not trained" in printed.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--dataset", "chairs"], "--dataset chairs needs --path, where it is."),
        (["--path", "x"], "--dataset scenes is rendered and has no --path; name another dataset, or leave --path out."),
        (["--dataset", "bag", "--path", "x", "--seed", "1"], "--seed is for --dataset scenes only; leave it out."),
        (["--dataset", "chairs", "--path", "x", "--size", "9x9"], "--size is for --dataset scenes only; leave it out."),
        (["--flow-topic", "/x"], "--flow-topic is for --dataset bag only; leave it out."),
        (["--samples", "1", "--steps", "2", "--sampler", "one_step"], "sampler 'one_step' takes exactly one step"),
        (["--samples", "1", "--size", "4x4"], "images of 4 x 4 pixels are too small"),
    ],
)
def test_unusable_arguments(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", *arguments, "--device", "cpu", "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"diffusion-perception: error: {complaint}")
    assert len(printed.err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--samples", "0"], ["--size", "9"], ["--seed", "-1"], ["--dataset", "kitti"]])
def test_arguments_that_cannot_be_parsed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", *arguments])
    assert stopped.value.code == 2
    assert f"argument {arguments[0]}" in capsys.readouterr().err


@pytest.mark.parametrize("dataset", DATASETS[1:])
def test_a_missing_dataset_does_not_wait_for_the_checkpoint(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(*arguments: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("diffusion_perception_ros.cli.dataset_options.load_pipeline", load)
    path = str(tmp_path / "nowhere")
    assert cli.main(["evaluate", "--dataset", dataset, "--path", path]) == 2
    error = capsys.readouterr().err
    assert path in error
    assert "does not exist" in error


def test_labels_are_numbered_from_one() -> None:
    labels: NDArray[np.uint16] = sample(0).labels
    assert np.unique(labels).tolist() == [0, 1, 2]
    assert np.array_equal(labels == 2, sample(0).instances[1].visible)
