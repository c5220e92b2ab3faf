"""Targets are what decoding turns back into the truth, also of mirrored samples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from training_runs import seeing_normals, tiny

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.metadata import TargetEncoding
from diffusion_perception_ros.tasks import DecodeContext, Target, Truth, find_task
from diffusion_perception_ros.tasks.geometry import Geometry
from diffusion_perception_ros.training.augmentation import mirror, mirror_truth, photometric
from diffusion_perception_ros.training.cache import render_records, unpack_masks
from diffusion_perception_ros.training.frames import Frames

SIZE = 32


def scenes(count: int = 3) -> Truth:
    records = render_records(range(count), SIZE, normals=True)
    masks = {name: torch.from_numpy(mask) for name, mask in unpack_masks(records["masks"]).items()}
    flow, normals = (torch.from_numpy(records[name]).float().permute(0, 3, 1, 2) for name in ("flow", "normals"))
    depth = torch.from_numpy(records["depth"]).float()
    return Truth(depth, flow, masks["flow_valid"], masks["visible"], masks["amodal"], normals)


def encode(task: str, truth: Truth) -> Target:
    metadata = seeing_normals(tiny()).metadata()
    return find_task(task).encode_target(truth, metadata.tasks[task], metadata.flow_reference_size)


def decode(task: str, target: Target, visible: NDArray[Any] | None = None) -> list[dict[str, NDArray[Any]]]:
    """Each sample's answer at the network's resolution."""
    metadata = seeing_normals(tiny()).metadata()
    answers = []
    for i, images in enumerate(target.images):
        masks = {} if visible is None else {1: visible[i]}
        geometry = Geometry(SIZE, SIZE, SIZE)
        context = DecodeContext(metadata.tasks[task], geometry, metadata.flow_reference_size, "standardize", masks)
        fields = find_task(task).decode(images[None, None], context)
        answers.append(
            {name: np.asarray(value) if isinstance(value, torch.Tensor) else value for name, value in fields.items()}
        )
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


def test_metric_depth_there_and_back() -> None:
    truth = scenes()
    encoding = TargetEncoding("log_metric", (1000,), parameters={"log_range": 1.5, "middle": 4.0})
    target = find_task("depth").encode_target(truth, encoding, (SIZE, SIZE))
    for depth, images in zip(truth.depth, target.images, strict=True):
        context = DecodeContext(encoding, Geometry(SIZE, SIZE, SIZE), (SIZE, SIZE), "standardize", {})
        metres = find_task("depth").decode(images[None, None], context)["depth_metric"]
        representable = (depth > 4 * np.exp(-1.499)) & (depth < 4 * np.exp(1.499))
        assert representable.any()
        torch.testing.assert_close(metres[representable], depth[representable], rtol=1e-4, atol=1e-4)
        assert metres[depth > 4 * np.exp(1.501)].isnan().all()


def test_log_depth_there_and_back() -> None:
    truth = scenes()
    encoding = TargetEncoding("log", (1000,), parameters={"log_range": 1.5})
    target = find_task("depth").encode_target(truth, encoding, (SIZE, SIZE))
    for depth, images in zip(truth.depth, target.images, strict=True):
        context = DecodeContext(encoding, Geometry(SIZE, SIZE, SIZE), (SIZE, SIZE), "standardize", {})
        relative = find_task("depth").decode(images[None, None], context)["depth_relative"]
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


def test_normals_there_and_back() -> None:
    truth = scenes()
    assert truth.normals is not None
    truth.normals[2, :, :4] = torch.nan
    target = encode("normals", truth)
    for normals, valid, fields in zip(truth.normals, target.valid, decode("normals", target), strict=True):
        decoded = torch.from_numpy(fields["normals"]).permute(2, 0, 1)
        surface = normals.norm(dim=0) > 0.5
        torch.testing.assert_close(decoded[:, surface], normals[:, surface], rtol=0, atol=1e-3)
        assert decoded[:, ~surface].isnan().all()  # the sky, and what is unknown
        assert torch.equal(valid, ~normals[0].isnan())
    assert not target.valid[2, :4].any()
    assert target.images.isfinite().all()


def test_appearance_there_and_back() -> None:
    """The object's picture on white, whose mask is what is not white."""
    appearance = torch.ones(1, 3, SIZE, SIZE)
    appearance[..., 4:20, 4:20] = torch.tensor([0.2, 0.4, 0.6]).view(3, 1, 1)
    visible = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    visible[:, 4:20, 4:10] = True
    amodal = appearance[:, 0] < 1
    truth = replace(scenes(1), visible=visible, amodal=amodal, appearance=appearance)
    encoding = find_task("amodal").released
    assert encoding is not None
    target = find_task("amodal").encode_target(truth, encoding, (SIZE, SIZE))
    assert target.valid.all()
    context = DecodeContext(encoding, Geometry(SIZE, SIZE, SIZE), (SIZE, SIZE), "standardize", {1: visible[0].numpy()})
    (instance,) = find_task("amodal").decode(target.images[None], context)["amodal"]
    assert (instance.mask == amodal[0].numpy()).all()
    assert instance.appearance[10, 15].tolist() == [51, 102, 153]
    assert instance.appearance[25, 25].tolist() == [255, 255, 255]


def test_appearance_of_hidden_parts_of_scenes_is_unknown() -> None:
    encoding = find_task("amodal").released
    assert encoding is not None
    with pytest.raises(InputError, match="no training targets of the kind 'rgb_on_white'"):
        find_task("amodal").encode_target(scenes(1), encoding, (SIZE, SIZE))


@pytest.mark.parametrize("task", ["depth", "flow", "amodal", "normals"])
def test_mirrored_targets_are_mirrored_as_predictions_are(task: str) -> None:
    """What the pipeline undoes for flipped ensemble members is what training does to samples."""
    truth = scenes(2)
    mirrored = torch.tensor([True, False])
    plain, turned = encode(task, truth), encode(task, mirror_truth(truth, mirrored))
    torch.testing.assert_close(find_task(task).unmirror(turned.images[:1]), plain.images[:1])
    assert torch.equal(turned.images[1], plain.images[1])
    assert torch.equal(turned.valid, mirror(plain.valid, mirrored))


def test_photometric_changes_are_shared_by_both_frames() -> None:
    image = torch.rand(4, 3, SIZE, SIZE) * 0.5 + 0.25
    frames = Frames(image, image, scenes(4))
    changed = photometric(frames, 1.0, np.random.default_rng(0))
    assert changed.image.min() >= 0
    assert changed.image.max() <= 1
    assert (changed.image - image).abs().mean() > 0.02
    assert (changed.image - changed.next_image).abs().mean() < 0.3 * (changed.image - image).abs().mean()
    untouched = photometric(frames, 0.0, np.random.default_rng(0))
    torch.testing.assert_close(untouched.image, image)


def test_an_object_changes_its_colours_as_its_picture_does() -> None:
    """Where it is seen it looks as in the image, and the white around it is no part of the picture."""
    truth = scenes(2)
    image = torch.rand(2, 3, SIZE, SIZE) * 0.5 + 0.25
    appearance = torch.where(truth.amodal[:, None], image, 1.0)
    changed = photometric(Frames(image, image, replace(truth, appearance=appearance)), 1.0, np.random.default_rng(0))
    assert changed.truth.appearance is not None
    inside = truth.amodal[:, None].expand_as(image)
    torch.testing.assert_close(changed.truth.appearance[inside], changed.image[inside])
    assert (changed.truth.appearance[~inside] == 1).all()
