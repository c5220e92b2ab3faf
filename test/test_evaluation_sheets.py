"""Pictures of predictions: tiles, their layout, and the sheet of a checkpoint."""

from __future__ import annotations

import numpy as np

from diffusion_perception_ros.evaluation.evaluate import evaluate
from diffusion_perception_ros.evaluation.samples import DepthTruth, FlowTruth, InstanceTruth, NormalTruth, Sample
from diffusion_perception_ros.evaluation.sheets.contact_sheet import Group, Heading, Row, contact_sheet
from diffusion_perception_ros.evaluation.sheets.sample_sheet import sample_sheet
from diffusion_perception_ros.evaluation.sheets.tiles import (
    MISSED,
    RIGHT,
    TOO_MUCH,
    UNKNOWN,
    amodal_tiles,
    depth_tiles,
    error_color,
    flow_tiles,
    normal_tiles,
)
from diffusion_perception_ros.model.metadata import TargetEncoding
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.predictions import AmodalInstance, PerceptionOutput

BANNER, WHITE, DARK = (38, 92, 214), (247, 247, 247), (40, 0, 60)


def test_a_warning_is_a_banner() -> None:
    row = Row([[np.zeros((9, 12, 3), np.uint8)] * 3], [""])
    group = Group("Depth", ("predicted", "true", "error"))
    plain, warned = (contact_sheet(Heading("", [], [()], words), [group], [row]) for words in (None, "RANDOM"))
    assert warned.shape[0] > plain.shape[0]
    assert warned.shape[1:] == plain.shape[1:]
    # From edge to edge.
    assert (warned == BANNER).all(axis=2).all(axis=1).sum() > 10
    assert not (plain == BANNER).all(axis=2).any()


def test_depth_tiles() -> None:
    """The prediction is right but for scale and shift and one pixel; the sky has no error."""
    columns = np.arange(100, dtype=np.float32)
    metres = np.tile(2 + columns / 10, (40, 1)).astype(np.float32)
    relative = (metres / 50 + 0.1).astype(np.float32)
    relative[20, 50] += 0.1
    metres[0, 0] = np.inf
    for encoding in (TargetEncoding("affine", (1000,)), TargetEncoding("log", (1000,), parameters={"log_range": 3.0})):
        predicted, true, error = depth_tiles(relative, DepthTruth.within(metres, 0.001, 80), encoding, 0.5)
        assert predicted.shape == true.shape == error.shape == (40, 100, 3)
        assert tuple(error[0, 0]) == UNKNOWN
        assert tuple(error[20, 50]) == DARK
        assert error[10:15, 60:70].min() > 225
        # Near is red, far is blue, the sky as far as far can be.
        assert true[5, 0, 2] > true[5, 0, 0]
        assert true[5, 99, 0] > true[5, 99, 2]
        assert (true[0, 0].astype(int) - true[5, 99] <= 40).all()


def test_truth_and_prediction_of_depth_have_the_same_colours() -> None:
    """A logarithmic checkpoint that makes no mistakes."""
    metres = np.random.default_rng(0).uniform(1, 12, (30, 40)).astype(np.float32)
    relative = (metres / np.median(metres) * np.exp(-3)).astype(np.float32)
    encoding = TargetEncoding("log", (1000,), parameters={"log_range": 3.0})
    predicted, true, _ = depth_tiles(relative, DepthTruth.within(metres, 0.001, 80), encoding, 0.5)
    assert np.abs(predicted.astype(int) - true).max() <= 12
    assert len(np.unique(predicted.reshape(-1, 3), axis=0)) > 100


def test_flow_tiles() -> None:
    flow = np.zeros((6, 8, 2), np.float32)
    truth = np.zeros((6, 8, 2), np.float32)
    truth[2, 3], flow[4, 4] = (3, 4), np.nan
    valid = np.ones((6, 8), bool)
    valid[0, 0] = False
    predicted, true, error = flow_tiles(flow, FlowTruth(truth, valid), 5.0, 5.0)
    assert tuple(predicted[4, 4]) == tuple(true[0, 0]) == tuple(error[0, 0]) == tuple(error[4, 4]) == UNKNOWN
    assert tuple(predicted[2, 3]) == (255, 255, 255)
    assert tuple(true[2, 3]) != (255, 255, 255)
    assert tuple(error[2, 3]) == DARK
    assert tuple(error[1, 1]) == WHITE


def test_normal_tiles() -> None:
    truth = np.zeros((6, 8, 3), np.float32)
    truth[..., 2] = -1
    normals = truth.copy()
    truth[0, 0] = 0
    normals[2, 3] = (0, -np.sin(1), -np.cos(1))
    predicted, true, error = normal_tiles(normals, NormalTruth.where_known(truth), 45.0)
    assert tuple(true[0, 0]) == tuple(error[0, 0]) == UNKNOWN
    assert tuple(error[2, 3]) == DARK
    assert tuple(error[1, 1]) == WHITE
    assert predicted[1, 1, 0] > predicted[1, 1, 2]
    assert tuple(predicted[1, 1]) == tuple(true[2, 3]) != tuple(predicted[2, 3])


def test_amodal_tiles() -> None:
    visible, whole, mask = np.zeros((3, 20, 20), bool)
    visible[:, :5] = whole[:, :15] = mask[:, :5] = mask[10:, :18] = True
    image = np.full((20, 20, 3), 40, np.uint8)
    predicted, true, hidden = amodal_tiles(image, [AmodalInstance(1, visible, mask)], [InstanceTruth(visible, whole)])
    assert tuple(hidden[15, 10]) == RIGHT
    assert tuple(hidden[3, 10]) == MISSED
    assert tuple(hidden[15, 16]) == TOO_MUCH
    assert len(set(hidden[3, 2].tolist())) == len(set(hidden[3, 17].tolist())) == 1  # grey
    assert not np.array_equal(predicted, true)


def test_error_colors_get_darker() -> None:
    ramp = error_color(np.linspace(0, 1.5, 31)[None])[0].astype(int).sum(axis=1)
    assert (np.diff(ramp[:21]) < 0).all()
    assert (ramp[20:] == ramp[-1]).all()


def test_what_is_missing_is_said(pipe: PerceptionPipeline) -> None:
    """No truth of flow, no object, and a frame without prediction: words in the place of pictures."""
    depth = np.random.default_rng(1).uniform(1, 5, (30, 40)).astype(np.float32)
    sample = Sample("x", np.zeros((30, 40, 3), np.uint8), depth=DepthTruth(depth, depth > 0))

    def see(sample: Sample, tasks: object) -> PerceptionOutput:
        return PerceptionOutput(depth_relative=depth)

    def abstain(sample: Sample, tasks: object) -> PerceptionOutput:
        return PerceptionOutput()

    evaluation = evaluate(see, [sample], ("depth",))
    seen, unseen = (
        sample_sheet("", [], [("frame", sample)], predict, pipe.metadata, evaluation, "all")
        for predict in (see, abstain)
    )
    assert seen.shape == unseen.shape
    colorful = (np.ptp(seen.astype(int), axis=2) > 60).sum() - (np.ptp(unseen.astype(int), axis=2) > 60).sum()
    assert colorful > 2 * 216 * 162 * 0.8
