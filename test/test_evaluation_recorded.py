from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffusion_perception_ros import cli
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.evaluation.datasets import Bag, BagTopics, Scenes
from diffusion_perception_ros.evaluation.evaluate import evaluate, predict_with
from diffusion_perception_ros.evaluation.recorded import RecordedPredictions
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.replay import ReplaySettings, replay
from diffusion_perception_ros.replay.bag import deserialize
from diffusion_perception_ros.replay.reader import BagReader
from diffusion_perception_ros.replay.scene_bag import MASKS_TOPIC, record_scenes
from diffusion_perception_ros.replay.writer import BagWriter
from diffusion_perception_ros.sampling.settings import SamplingSettings
from diffusion_perception_ros.scenes import EVALUATION_SEED

TASKS = ("depth", "flow", "amodal")
SCENES, FRAMES = 2, 3
SETTINGS = ReplaySettings(visible_masks_topic=MASKS_TOPIC, max_frame_gap=1.0, num_inference_steps=2)
Change = Callable[[str, int, Any], bool]


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Scenes with the truth, and their replay."""
    folder = tmp_path_factory.mktemp("bags")
    with BagWriter(folder / "scenes", "mcap") as bag:
        record_scenes(bag, range(EVALUATION_SEED, EVALUATION_SEED + SCENES), FRAMES, (48, 64))
    replay(folder / "scenes", folder / "replayed", PerceptionPipeline.random(64), SETTINGS)
    return folder / "scenes", folder / "replayed"


def changed(source: Path, output: Path, change: Change) -> Path:
    """A copy of a bag; ``change`` may edit the messages of each topic (n-th, from 0), and says which are kept."""
    with BagReader(source) as reader, BagWriter(output, "mcap") as writer:
        numbers = dict.fromkeys(reader.topics, -1)
        for raw in reader.messages(list(reader.topics)):
            numbers[raw.topic] += 1
            message = deserialize(raw)
            if change(raw.topic, numbers[raw.topic], message):
                writer.write(raw.topic, message, raw.log_time)
    return output


def run(scenes: Path, predictions: Path, *options: str) -> int:
    return cli.main(
        ["evaluate", "--dataset", "bag", "--path", str(scenes), "--predictions", str(predictions), *options]
    )


def test_recorded_predictions_score_as_live_ones(bags: tuple[Path, Path]) -> None:
    dataset = Bag(bags[0], BagTopics(), sequences=4)
    with RecordedPredictions(bags[1]) as predictions:
        recorded = evaluate(predictions, dataset, predictions.tasks, dataset.sequences())
        assert predictions.tasks == TASKS
        assert predictions.objects_left_out == 0
    live = predict_with(PerceptionPipeline.random(64), SamplingSettings(num_inference_steps=2))
    expected = evaluate(live, dataset, TASKS, dataset.sequences())
    assert recorded.missing == expected.missing == {}
    for task in (*TASKS, "temporal"):
        assert recorded.method[task] == pytest.approx(expected.method[task], rel=1e-4, nan_ok=True)
        assert recorded.baselines[task] == expected.baselines[task]
    assert recorded.method["flow"]["samples"] == SCENES * (FRAMES - 1)


def test_the_command(bags: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*bags, "--json") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    result = json.loads(printed.out)
    assert result.keys() == {*TASKS, "temporal", "baselines", "settings"}
    expected = {
        "dataset": "bag",
        "predictions": str(bags[1]),
        "namespace": "/perception",
        "checkpoint": "random",
        "sampler": "ddim_trailing",
        "steps": 2,
        "ensemble": 1,
        "frames_processed": SCENES * FRAMES,
        "dropped": {},
        "degraded": {},
        "objects_left_out": 0,
    }
    assert expected.items() <= result["settings"].items()
    assert run(*bags, "--namespace", "perception/", "--samples", "2") == 0
    assert capsys.readouterr().out.startswith("depth after least-squares scale and shift (2 samples)")


def test_what_was_not_recorded_is_counted_and_in_no_average(
    bags: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second frame has no depth, the first pair's flow leads elsewhere, and there are no masks at all."""

    def change(topic: str, number: int, message: Any) -> bool:
        if topic == "/perception/flow" and number == 0:
            message.next_stamp.sec += 1
        if topic == "/perception/status":
            message.drop_reasons, message.drop_counts = ["queue"], np.array([number], np.uint64)
            message.degraded_reason = "fewer steps" if number > 3 else ""
        return not (topic == "/perception/depth/relative" and number == 1) and topic != "/perception/amodal/masks"

    predictions = changed(bags[1], tmp_path / "changed", change)
    assert run(bags[0], predictions, "--json") == 3
    got = json.loads(capsys.readouterr().out)
    assert got["missing"] == {"depth": 1, "flow": 1, "temporal": 1}
    assert (got["depth"]["samples"], got["flow"]["samples"], got["temporal"]["samples"]) == (5, 3, 1)
    assert "amodal" not in got
    assert got["settings"]["dropped"] == {"queue": 5}
    assert got["settings"]["degraded"] == {"fewer steps": 2}
    samples = list(Bag(bags[0], BagTopics()))
    with RecordedPredictions(bags[1]) as whole:
        rest = evaluate(whole, [sample for i, sample in enumerate(samples) if i != 1], ("depth",))
    assert got["depth"]["abs_rel"] == rest.method["depth"]["abs_rel"]
    assert got["baselines"]["depth"]["plane"]["abs_rel"] == rest.baselines["depth"]["plane"]["abs_rel"]
    assert run(bags[0], predictions) == 3
    table = capsys.readouterr().out
    assert "depth after least-squares scale and shift (5 samples, 1 more without prediction)" in table
    assert "flow (3 samples, 1 more without prediction)" in table
    assert "sequence (1 sequences, 1 more without prediction)" in table


def test_a_task_without_any_prediction_is_said(
    bags: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(topic: str, number: int, message: Any) -> bool:
        if topic == "/perception/flow":
            message.next_stamp.sec += 1
        return topic in ("/perception/flow", "/perception/depth/relative")

    assert run(bags[0], changed(bags[1], tmp_path / "changed", change)) == 3
    assert capsys.readouterr().out.endswith("\n\nflow: 4 samples, all without prediction\n")


def test_an_object_that_was_left_out_is_its_visible_mask(bags: tuple[Path, Path], tmp_path: Path) -> None:
    def change(topic: str, number: int, message: Any) -> bool:
        if topic == "/perception/amodal/masks":
            message.masks = []
        return True

    samples = list(Bag(bags[0], BagTopics()))
    with RecordedPredictions(changed(bags[1], tmp_path / "changed", change)) as predictions:
        evaluation = evaluate(predictions, samples, ("amodal",))
        assert predictions.settings["objects_left_out"] == sum(len(sample.instances) for sample in samples) > 6
    assert evaluation.method["amodal"] == evaluation.baselines["amodal"]["visible_mask"]


def test_pixels_without_flow_count_as_they_always_do(bags: tuple[Path, Path], tmp_path: Path) -> None:
    def change(topic: str, number: int, message: Any) -> bool:
        if topic == "/perception/flow":
            message.flow.data = np.full(48 * 64 * 2, np.nan, np.float32).view(np.uint8)
        return True

    with RecordedPredictions(changed(bags[1], tmp_path / "changed", change)) as predictions:
        flow = evaluate(predictions, Bag(bags[0], BagTopics()), ("flow",)).method["flow"]
    assert flow["coverage"] == 0
    assert flow["epe"] == flow["epe_zero"] > 0


def test_normals(bags: tuple[Path, Path], tmp_path: Path) -> None:
    """The truth, published as a prediction."""
    with BagReader(bags[0]) as reader, BagWriter(tmp_path / "normals", "mcap") as writer:
        for raw in reader.messages(["/ground_truth/normals"]):
            writer.write("/node/normals", deserialize(raw), raw.log_time)
    with RecordedPredictions(tmp_path / "normals", "node") as predictions:
        assert predictions.tasks == ("normals",)
        assert predictions.name == "normals"  # nothing else tells
        evaluation = evaluate(predictions, Bag(bags[0], BagTopics()), predictions.tasks)
    assert evaluation.method["normals"]["mean"] == pytest.approx(0, abs=0.1)
    assert evaluation.method["normals"]["samples"] == SCENES * FRAMES


def test_a_recording_that_was_cut_off(
    bags: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = next(bags[1].glob("*.mcap")).read_bytes()
    (tmp_path / "cut.mcap").write_bytes(whole[: len(whole) * 2 // 3])
    assert run(bags[0], tmp_path / "cut.mcap", "--json") == 3
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert result["missing"]["depth"] + result["depth"]["samples"] == SCENES * FRAMES
    assert printed.err.startswith(f"{tmp_path / 'cut.mcap'}: ")


def resize(topic: str, number: int, message: Any) -> bool:
    if topic == "/perception/depth/relative":
        message.height //= 2
        message.data = message.data[: message.height * message.step]
    return True


def shorten(topic: str, number: int, message: Any) -> bool:
    if topic == "/perception/flow":
        message.flow.step = 1
    return True


def later(topic: str, number: int, message: Any) -> bool:
    message.header.stamp.sec += 1000
    return True


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            resize,
            "frame 1.000 s: a prediction is unusable: the relative depth is of 64x24 pixels, but the image of 64x48.",
        ),
        (shorten, "frame 1.000 s: a prediction is unusable: step is 1 bytes, but a row of 64 32FC2 pixels has 512."),
        (later, "none of the predictions in {} (depth, flow, amodal) is about one of the 6 frames with ground truth"),
    ],
)
def test_unusable_predictions(
    change: Change, complaint: str, bags: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions = changed(bags[1], tmp_path / "changed", change)
    assert run(bags[0], predictions, "--json") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"diffusion-perception: error: {complaint.format(predictions)}")
    assert len(printed.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--namespace", "/robot"], "has no predictions under /robot; its topics are /perception/amodal/masks, /per"),
        (["--steps", "4"], "--steps has no effect on predictions that are there already; leave it out, or leave out"),
        (["--device", "cpu"], "--device has no effect"),
        (["--dataset", "scenes"], "--path"),
        (["--dataset", "chairs"], "--predictions is for --dataset bag only"),
    ],
)
def test_options_that_do_not_fit(
    options: list[str], complaint: str, bags: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*bags, *options) == 2
    assert complaint in capsys.readouterr().err


def test_truth_and_predictions_in_one_bag(
    bags: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BagReader(bags[0]) as first, BagReader(bags[1]) as second, BagWriter(tmp_path / "one", "mcap") as writer:
        raws = [raw for bag in (first, second) for raw in bag.messages(list(bag.topics))]
        for raw in sorted(raws, key=lambda raw: raw.log_time):
            writer.copy(raw, ())
    assert run(tmp_path / "one", tmp_path / "one") == 2
    assert "several topics for --" in capsys.readouterr().err
    topics = {"image": "/camera/image_raw", "depth": "/ground_truth/depth/image", "flow": "/ground_truth/flow"}
    topics["amodal"] = "/ground_truth/amodal/masks"
    named = [word for role, topic in topics.items() for word in (f"--{role}-topic", topic)]
    assert run(tmp_path / "one", tmp_path / "one", *named, "--json") == 0
    merged = json.loads(capsys.readouterr().out)
    assert run(*bags, "--json") == 0
    apart = json.loads(capsys.readouterr().out)
    assert {task: merged[task] for task in TASKS} == {task: apart[task] for task in TASKS}


def test_a_namespace_is_of_predictions(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", "--namespace", "/x"]) == 2
    assert "--namespace is for --predictions only" in capsys.readouterr().err


def test_samples_from_elsewhere_have_no_predictions(bags: tuple[Path, Path]) -> None:
    sample = next(iter(Scenes(1, height=32, width=32)))
    with RecordedPredictions(bags[1]) as predictions, pytest.raises(TypeError, match="is from no bag"):
        predictions(sample, ("depth",))


def test_no_bag(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        RecordedPredictions(tmp_path / "nowhere")
