from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffusion_perception_ros.evaluation.metrics import (
    MINIMUM_DEPTH,
    affine_invariant_depth_metrics,
    align_least_squares,
    amodal_metrics,
    depth_flicker,
    flow_metrics,
    intersection_over_union,
    normal_metrics,
)

SEEDS = st.integers(0, 2**32 - 1)


def random(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def everywhere(x: Tensor) -> Tensor:
    return torch.ones(x.shape[-2:], dtype=torch.bool)


def test_least_squares_by_hand() -> None:
    """0, 1, 2 onto 1, 3, 8: slope 7 / 2, through the means 1 and 4."""
    prediction, target = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[1.0, 3.0, 8.0]])
    fitted = align_least_squares(prediction, target, everywhere(target))
    assert fitted.tolist() == [[0.5, 4.0, 7.5]]


def test_least_squares_takes_valid_pixels_only() -> None:
    prediction, target = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[1.0, 3.0, torch.inf]])
    fitted = align_least_squares(prediction, target, torch.tensor([[True, True, False]]))
    assert fitted.tolist() == [[1.0, 3.0, 5.0]]


def test_depth_by_hand() -> None:
    """The fit of 0, 1, 2 onto 1, 3, 8 is 0.5, 4, 7.5: errors 0.5, 1, 0.5; ratios 2, 4 / 3, 16 / 15."""
    prediction, target = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[1.0, 3.0, 8.0]])
    got = affine_invariant_depth_metrics(prediction, target, everywhere(target))
    logs = torch.tensor([0.5 / 1, 4 / 3, 7.5 / 8]).double().log()
    assert got == pytest.approx(
        {
            "abs_rel": (0.5 / 1 + 1 / 3 + 0.5 / 8) / 3,
            "delta1": 1 / 3,
            "delta2": 2 / 3,
            "delta3": 2 / 3,
            "rmse": math.sqrt((0.25 + 1 + 0.25) / 3),
            "silog": 100 * float(logs.std(correction=0)),
        },
        rel=1e-6,
    )


def test_depth_below_zero_is_cut_off() -> None:
    """The fit of 0, 1, 2 onto 0.1, 0.2, 9 is -1.35, 3.1, 7.55."""
    prediction, target = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[0.1, 0.2, 9.0]])
    got = affine_invariant_depth_metrics(prediction, target, everywhere(target))
    assert got["abs_rel"] == pytest.approx(((0.1 - MINIMUM_DEPTH) / 0.1 + 2.9 / 0.2 + 1.45 / 9) / 3, rel=1e-6)
    logs = torch.tensor([MINIMUM_DEPTH / 0.1, 3.1 / 0.2, 7.55 / 9]).double().log()
    assert got["silog"] == pytest.approx(100 * float(logs.std(correction=0)), rel=1e-6)


@given(SEEDS, st.floats(0.01, 100), st.floats(-100, 100))
@settings(deadline=None)
def test_depth_does_not_see_scale_and_shift(seed: int, scale: float, shift: float) -> None:
    target, prediction = 1 + random(seed, 6, 7), random(seed + 1, 6, 7)
    valid = random(seed + 2, 6, 7) > 0.2
    target[~valid] = torch.nan
    got = affine_invariant_depth_metrics(prediction * scale + shift, target, valid)
    assert got == pytest.approx(affine_invariant_depth_metrics(prediction, target, valid), rel=1e-5)
    perfect = affine_invariant_depth_metrics(target * scale + shift, target, valid)
    assert perfect == pytest.approx(
        {"abs_rel": 0, "delta1": 1, "delta2": 1, "delta3": 1, "rmse": 0, "silog": 0}, abs=1e-5
    )


@given(SEEDS)
@settings(deadline=None)
def test_depth_bounds(seed: int) -> None:
    target, prediction = 0.1 + 10 * random(seed, 5, 5), random(seed + 1, 5, 5)
    got = affine_invariant_depth_metrics(prediction, target, everywhere(target))
    constant = affine_invariant_depth_metrics(torch.zeros(5, 5), target, everywhere(target))
    assert 0 <= got["delta1"] <= got["delta2"] <= got["delta3"] <= 1
    assert min(got.values()) >= 0
    # The fit can always fall back on a constant; what is cut off below lies nearer to the truth then.
    assert got["rmse"] <= constant["rmse"] + 1e-9


def test_depth_that_is_not_a_number_is_seen() -> None:
    target = 1 + random(0, 4, 4)
    prediction = target.clone()
    prediction[0, 0] = torch.nan
    got = affine_invariant_depth_metrics(prediction, target, everywhere(target))
    assert math.isnan(got["abs_rel"])
    assert got["delta1"] == 0


def test_flow_by_hand() -> None:
    """Displacements 5 and 100 to the right; errors 4 (an outlier) and 4 (more than 3 pixels, but not 5 %)."""
    target = torch.tensor([[[5.0, 100.0, 9.0]], [[0.0, 0.0, 9.0]]])
    prediction = torch.tensor([[[5.0, 104.0, 0.0]], [[4.0, 0.0, 0.0]]])
    got = flow_metrics(prediction, target, torch.tensor([[True, True, False]]))
    assert got == pytest.approx({"epe": 4, "epe_zero": 52.5, "fl_all": 0.5, "coverage": 1})


def test_flow_without_a_prediction_scores_as_zero_flow() -> None:
    target = torch.tensor([[[3.0, 1.0]], [[4.0, 0.0]]])
    prediction = torch.tensor([[[torch.nan, 1.0]], [[4.0, 0.0]]])
    got = flow_metrics(prediction, target, everywhere(target))
    assert got == pytest.approx({"epe": 2.5, "epe_zero": 3, "fl_all": 0.5, "coverage": 0.5})


@given(SEEDS, st.floats(0, 1))
@settings(deadline=None)
def test_flow_invariants(seed: int, missing: float) -> None:
    target, prediction = 20 * random(seed, 2, 5, 6) - 10, 20 * random(seed + 1, 2, 5, 6) - 10
    prediction[:, random(seed + 2, 5, 6) < missing] = torch.nan
    got = flow_metrics(prediction, target, everywhere(target))
    assert 0 <= got["fl_all"] <= 1
    assert 0 <= got["coverage"] <= 1
    assert got["epe"] >= 0
    turned = flow_metrics(prediction.flip(0), target.flip(0), everywhere(target))
    assert turned == pytest.approx(got)
    perfect = flow_metrics(target, target, everywhere(target))
    assert (perfect["epe"], perfect["fl_all"], perfect["epe_zero"]) == (0, 0, got["epe_zero"])
    nothing = flow_metrics(torch.full_like(target, torch.nan), target, everywhere(target))
    assert nothing["epe"] == got["epe_zero"]


def normals_at(*degrees: float) -> Tensor:
    """(3, 1, N): so many degrees to the right of what faces the camera."""
    angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angle.sin(), torch.zeros_like(angle), -angle.cos()])[:, None]


def test_normals_by_hand() -> None:
    """Errors of 0, 10, 20, 25 and 100 degrees; a sixth pixel is not valid."""
    target = normals_at(0, 0, 30, 0, 0, 0)
    got = normal_metrics(normals_at(0, 10, 50, -25, 100, 3), target, torch.tensor([[True] * 5 + [False]]))
    expected = {"mean": 31, "median": 20, "within_11.25": 0.4, "within_22.5": 0.6, "within_30": 0.8, "coverage": 1}
    assert got == pytest.approx(expected)


def test_normals_without_a_prediction_are_wrong_by_a_right_angle() -> None:
    prediction, target = normals_at(5, 0), normals_at(0, 0)
    prediction[:, 0, 1] = torch.nan
    got = normal_metrics(prediction, target, everywhere(target))
    expected = {"mean": 47.5, "within_11.25": 0.5, "within_22.5": 0.5, "within_30": 0.5, "coverage": 0.5}
    assert {name: got[name] for name in expected} == pytest.approx(expected)


@given(SEEDS)
@settings(deadline=None)
def test_normal_invariants(seed: int) -> None:
    target, prediction = (random(seed + i, 3, 4, 5) - 0.5 for i in range(2))
    got = normal_metrics(prediction, target, everywhere(target))
    assert 0 <= got["within_11.25"] <= got["within_22.5"] <= got["within_30"] <= 1
    assert got == pytest.approx(normal_metrics(target, prediction, everywhere(target)))
    assert got == pytest.approx(normal_metrics(3 * prediction, target, everywhere(target)))
    assert normal_metrics(-prediction, target, everywhere(target))["mean"] == pytest.approx(180 - got["mean"])
    assert normal_metrics(target, target, everywhere(target))["mean"] == pytest.approx(0, abs=1e-6)


def test_masks_by_hand() -> None:
    """Visible are 2 pixels, hidden 2 more, of which one is found, and one beside."""
    visible = torch.tensor([[1, 1, 0, 0, 0]]).bool()
    amodal = torch.tensor([[1, 1, 1, 1, 0]]).bool()
    prediction = torch.tensor([[1, 1, 1, 0, 1]]).bool()
    assert amodal_metrics(prediction, visible, amodal) == pytest.approx({"iou": 3 / 5, "iou_hidden": 1 / 3})
    assert amodal_metrics(visible, visible, amodal) == {"iou": 0.5, "iou_hidden": 0}


def test_an_object_in_full_view_has_no_hidden_part() -> None:
    whole = torch.ones(10, 10, dtype=torch.bool)
    visible = whole.clone()
    assert math.isnan(amodal_metrics(whole, visible, whole)["iou_hidden"])
    visible[0, :4] = False
    assert math.isnan(amodal_metrics(whole, visible, whole)["iou_hidden"])
    visible[0, 4] = False
    assert amodal_metrics(whole, visible, whole)["iou_hidden"] == 1


@given(SEEDS)
@settings(deadline=None)
def test_mask_invariants(seed: int) -> None:
    a, b = (random(seed + i, 6, 6) > 0.5 for i in range(2))
    got = intersection_over_union(a, b)
    assert 0 <= got <= 1
    assert got == intersection_over_union(b, a)
    assert (got == 1) == bool((a == b).all())
    assert intersection_over_union(a & False, b & False) == 1


def test_flicker_of_a_swinging_scale() -> None:
    """Nothing moves; the second frame is 10 % farther, which one fit over both frames cannot hide."""
    target = torch.full((2, 8, 8), 2.0)
    target[:, :4] = 4
    prediction = target * torch.tensor([1, 1.1])[:, None, None]
    still, valid = torch.zeros(1, 2, 8, 8), torch.ones(2, 8, 8, dtype=torch.bool)
    assert depth_flicker(target, target, valid, still, valid[:1]) == 0
    got = depth_flicker(prediction, target, valid, still, valid[:1])
    fitted = align_least_squares(prediction.double(), target.double(), valid)
    assert got == pytest.approx(float(((fitted[1] - fitted[0]) / target[0]).mean()), rel=1e-6)
    assert 0.08 < got < 0.11


def test_flicker_follows_the_flow() -> None:
    """A depth that moves right by two pixels does not flicker along that motion, but does in place."""
    first = 1 + random(3, 8, 8)
    target = torch.stack([first, first.roll(2, dims=1)])
    valid = torch.ones(2, 8, 8, dtype=torch.bool)
    flow = torch.zeros(1, 2, 8, 8)
    flow[:, 0] = 2
    inside = torch.zeros(1, 8, 8, dtype=torch.bool)
    inside[..., :6] = True
    assert depth_flicker(3 * target - 1, target, valid, flow, inside) == pytest.approx(0, abs=1e-6)
    assert depth_flicker(target, target, valid, torch.zeros_like(flow), inside) > 0.1


def test_flicker_leaves_out_what_is_invalid() -> None:
    target = torch.full((2, 8, 8), 2.0)
    target[0, :, 4:] += 1
    target[1] = target[0]
    valid = torch.ones(2, 8, 8, dtype=torch.bool)
    prediction = target.clone()
    valid[1, 0, 0], target[1, 0, 0], prediction[1, 0, 0] = False, torch.inf, torch.nan
    flow = torch.full((1, 2, 8, 8), 0.5)
    flow_valid = torch.zeros(1, 8, 8, dtype=torch.bool)
    flow_valid[:, :3, :3] = True
    flow[~flow_valid.unsqueeze(1).expand_as(flow)] = torch.nan
    assert depth_flicker(prediction, target, valid, flow, flow_valid) == pytest.approx(0, abs=1e-9)
    assert math.isnan(depth_flicker(prediction, target, valid, flow, flow_valid & False))
