"""Targets are what decoding turns back into the truth, also of mirrored samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_runs import tiny

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.metadata import TargetEncoding
from diffusion_perception_ros.tasks import DecodeContext, Target, Truth, find_task
from diffusion_perception_ros.tasks.geometry import Geometry
from diffusion_perception_ros.training.augmentation import mirror, mirror_truth, photometric
from diffusion_perception_ros.training.cache import render_records, unpack_masks

SIZE = 32


def scenes(count: int = 3) -> Truth:
    records = render_records(range(count), SIZE)
    masks = {name: torch.from_numpy(mask) for name, mask in unpack_masks(records["masks"]).items()}
    flow = torch.from_numpy(records["flow"]).float().permute(0, 3, 1, 2)
    depth = torch.from_numpy(records["depth"]).float()
    return Truth(depth, flow, masks["flow_valid"], masks["visible"], masks["amodal"])


def encode(task: str, truth: Truth) -> Target:
    encoding = tiny().metadata().tasks[task]
    return find_task(task).encode_target(truth, encoding, tiny().metadata().flow_reference_size)


def decode(task: str, target: Target, visible: np.ndarray | None = None) -> list[dict[str, np.ndarray]]:
    """Each sample's answer at the network's resolution."""
    metadata = tiny().metadata()
    answers = []
    for i, images in enumerate(target.images):
        masks = {} if visible is None else {1: visible[i]}
        geometry = Geometry(SIZE, SIZE, SIZE)
        context = DecodeContext(metadata.tasks[task], geometry, metadata.flow_reference_size, "standardize", masks)
        answers.append(find_task(task).decode(images[None, None], context))
    return answers


def test_depth_there_and_back() -> None:
    truth = scenes()
    target = encode("depth", truth)
    assert target.images.shape == (3, 1, 3, SIZE, SIZE)
    for depth, fields in zip(truth.depth, decode("depth", target), strict=True):
        known = depth.isfinite()
        near, far = np.quantile(depth[known], [0.02, 0.98])
        metric = torch.from_numpy(fields["depth_relative"]) * (far - near) + near
        torch.testing.assert_close(metric[known], depth[known].clamp(near, far), rtol=1e-4, atol=1e-4)
        assert (fields["depth_relative"][~known] == 1).all()  # the sky
    assert target.valid.all()


def test_log_depth_there_and_back() -> None:
    truth = scenes()
    encoding = TargetEncoding("log", (1000,), parameters={"log_range": 1.5})
    target = find_task("depth").encode_target(truth, encoding, (SIZE, SIZE))
    for depth, images in zip(truth.depth, target.images, strict=True):
        context = DecodeContext(encoding, Geometry(SIZE, SIZE, SIZE), (SIZE, SIZE), "standardize", {})
        relative = torch.from_numpy(find_task("depth").decode(images[None, None], context)["depth_relative"])
        known = depth.isfinite()
        median = depth[known].median()
        limits = float(median * np.exp(-1.5)), float(median * np.exp(1.5))
        torch.testing.assert_close(relative[known] * limits[1], depth[known].clamp(*limits), rtol=1e-4, atol=1e-4)
        assert (relative[~known] == 1).all()  # the sky
    nothing = replace(truth, depth=torch.full_like(truth.depth, torch.nan))
    assert not find_task("depth").encode_target(nothing, encoding, (SIZE, SIZE)).valid.any()


def test_depth_that_is_unknown_does_not_count() -> None:
    truth = scenes(2)
    truth.depth[0, :5] = torch.nan
    truth.depth[1] = torch.nan
    target = encode("depth", truth)
    assert not target.valid[0, :5].any()
    assert target.valid[0, 5:].all()
    assert not target.valid[1].any()
    assert target.images.isfinite().all()


@given(u=st.floats(-7.9, 7.9), v=st.floats(-7.9, 7.9))
def test_flow_there_and_back(u: float, v: float) -> None:
    flow = torch.tensor([u, v], dtype=torch.float32).view(1, 2, 1, 1).expand(-1, -1, SIZE, SIZE)
    everywhere = torch.ones(1, SIZE, SIZE, dtype=torch.bool)
    target = encode("flow", Truth(torch.ones(1, SIZE, SIZE), flow, everywhere, everywhere, everywhere))
    assert target.valid.all()
    (fields,) = decode("flow", target)
    np.testing.assert_allclose(fields["flow"], np.broadcast_to([u, v], (SIZE, SIZE, 2)), rtol=1e-4, atol=1e-4)


def test_flow_beyond_the_range_is_not_valid() -> None:
    truth = scenes(1)
    truth.flow[0, :, :4] = 9.0
    truth.flow[0, :, 4] = torch.nan
    target = encode("flow", truth)
    assert not target.valid[0, :5].any()
    assert torch.equal(target.valid[0, 5:], truth.flow_valid[0, 5:] & (truth.flow[0, :, 5:].abs() <= 8).all(dim=0))
    assert target.images.abs().max() <= 1


def test_masks_there_and_back() -> None:
    truth = scenes()
    visible = truth.visible.numpy()
    for i, fields in enumerate(decode("amodal", encode("amodal", truth), visible)):
        (instance,) = fields["amodal"]
        assert (instance.mask == (truth.amodal[i] | truth.visible[i]).numpy()).all()


def test_appearance_of_hidden_parts_is_unknown() -> None:
    encoding = find_task("amodal").released
    assert encoding is not None
    with pytest.raises(InputError, match="no training targets of the kind 'rgb_on_white'"):
        find_task("amodal").encode_target(scenes(1), encoding, (SIZE, SIZE))


@pytest.mark.parametrize("task", ["depth", "flow", "amodal"])
def test_mirrored_targets_are_mirrored_as_predictions_are(task: str) -> None:
    """What the pipeline undoes for flipped ensemble members is what training does to samples."""
    truth = scenes(2)
    mirrored = torch.tensor([True, False])
    plain, turned = encode(task, truth), encode(task, mirror_truth(truth, mirrored))
    torch.testing.assert_close(find_task(task).unmirror(turned.images[:1]), plain.images[:1])
    assert torch.equal(turned.images[1], plain.images[1])
    assert torch.equal(turned.valid, mirror(plain.valid, mirrored))


def test_photometric_changes_are_shared_by_both_frames() -> None:
    image = torch.rand(4, 3, 8, 8) * 0.5 + 0.25
    changed, same = photometric(image, image, 1.0, np.random.default_rng(0))
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert (changed - image).abs().mean() > 0.02
    assert (changed - same).abs().mean() < 0.3 * (changed - image).abs().mean()
    untouched, _ = photometric(image, image, 0.0, np.random.default_rng(0))
    torch.testing.assert_close(untouched, image)
