"""The pipeline as its users call it."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.random import SCHEDULER_CONFIG
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.predictions import PerceptionOutput

Frames = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


def assert_same(a: PerceptionOutput, b: PerceptionOutput, tolerance: float = 0.0) -> None:
    """Whatever both hold is equal; flow is compared in the network's unit of 75 pixels."""
    if a.depth_relative is not None and b.depth_relative is not None:
        np.testing.assert_allclose(a.depth_relative, b.depth_relative, rtol=0, atol=tolerance)
    if a.flow is not None and b.flow is not None:
        np.testing.assert_allclose(a.flow, b.flow, rtol=0, atol=tolerance * 75)
    if a.amodal is not None and b.amodal is not None:
        for x, y in zip(a.amodal, b.amodal, strict=True):
            assert x.id == y.id
            assert (x.mask != y.mask).mean() <= tolerance


def test_everything_at_once(pipe: PerceptionPipeline, frames: Frames) -> None:
    output = pipe(*frames)
    assert output.depth_relative is not None
    assert output.depth_relative.shape == (60, 80)
    assert output.depth_relative.dtype == np.float32
    assert 0 <= output.depth_relative.min() < output.depth_relative.max() <= 1
    assert output.flow is not None
    assert output.flow.shape == (60, 80, 2)
    assert output.flow.dtype == np.float32
    assert np.isfinite(output.flow).mean() > 0.5
    assert output.max_displacement == pytest.approx((75 * 80 / 512, 75 * 60 / 384))
    assert output.amodal is not None
    assert [instance.id for instance in output.amodal] == [2, 7]
    for instance in output.amodal:
        assert np.array_equal(instance.visible_mask, frames[2] == instance.id)
        assert (instance.mask | instance.visible_mask).sum() == instance.mask.sum()
    assert output.depth_uncertainty is None
    assert not output.extra
    with pytest.raises(dataclasses.FrozenInstanceError):
        output.flow = None  # type: ignore[misc]


def test_stages_take_all_of_the_time(pipe: PerceptionPipeline, frames: Frames) -> None:
    began = time.perf_counter()
    stages = pipe(*frames).stage_ms
    assert list(stages) == ["encode", "denoise", "decode"]
    assert min(stages.values()) > 0
    assert sum(stages.values()) < 1e3 * (time.perf_counter() - began)


def test_same_seed_same_result(pipe: PerceptionPipeline, frames: Frames) -> None:
    assert_same(pipe(*frames, seed=5), pipe(*frames, seed=5))
    depth = [pipe(frames[0], tasks=("depth",), seed=seed).depth_relative for seed in (5, 6)]
    assert depth[0] is not None
    assert depth[1] is not None
    assert np.abs(depth[0] - depth[1]).max() > 1e-3


@pytest.mark.parametrize("ensemble_size", [1, 3])
@pytest.mark.parametrize("sampler", ["ddim_trailing", "dpm_solver"])
def test_batched_together_or_apart(pipe: PerceptionPipeline, frames: Frames, ensemble_size: int, sampler: str) -> None:
    settings: dict[str, Any] = {"ensemble_size": ensemble_size, "sampler": sampler, "num_inference_steps": 2, "seed": 3}
    together = pipe(*frames, **settings)
    for task in ("depth", "flow", "amodal"):
        assert_same(pipe(*frames, tasks=(task,), **settings), together, 1e-4)


def test_batches_may_be_small(pipe: PerceptionPipeline, frames: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    want = pipe(*frames, ensemble_size=3)
    monkeypatch.setattr(pipe, "max_batch_size", 2)
    assert_same(pipe(*frames, ensemble_size=3), want, 1e-4)


def test_instances_do_not_see_each_other(pipe: PerceptionPipeline, frames: Frames) -> None:
    image, _, masks = frames
    both = pipe(image, visible_masks=masks, tasks=("amodal",)).amodal
    alone = pipe(image, visible_masks=np.where(masks == 7, 7, 0), tasks=("amodal",)).amodal
    assert both is not None
    assert alone is not None
    assert (both[1].mask != alone[0].mask).mean() <= 1e-4


def test_tasks_follow_from_the_arguments(pipe: PerceptionPipeline, frames: Frames) -> None:
    image, next_image, masks = frames
    assert pipe(image).flow is None
    assert pipe(image).amodal is None
    assert pipe(image, next_image).flow is not None
    assert pipe(image, visible_masks=masks).amodal is not None


@pytest.mark.parametrize("resize", ["squash", "letterbox"])
def test_mirrored_members_see_the_mirrored_world(pipe: PerceptionPipeline, frames: Frames, resize: str) -> None:
    """With zero noise, two members of a picture are those of its mirror image in the other order."""
    settings: dict[str, Any] = {"sampler": "one_step", "ensemble_size": 2, "flip_members": True, "resize": resize}
    image, next_image, masks = frames
    output = pipe(*frames, **settings)
    mirrored = pipe(image[:, ::-1], next_image[:, ::-1], masks[:, ::-1], **settings)
    assert output.depth_relative is not None
    assert output.flow is not None
    assert mirrored.depth_relative is not None
    assert mirrored.flow is not None
    # Even heights and widths, and nearest-exact sampling of an 80-pixel row by 64, are symmetric but for rounding.
    np.testing.assert_allclose(mirrored.flow[:, ::-1] * [-1, 1], output.flow, atol=0.05)
    if resize == "letterbox":
        return
    assert np.abs(mirrored.depth_relative[:, ::-1] - output.depth_relative).mean() < 0.02


def test_uncertainty_needs_three_members(pipe: PerceptionPipeline, frames: Frames) -> None:
    two, three = (pipe(frames[0], frames[1], ensemble_size=size) for size in (2, 3))
    assert two.depth_uncertainty is None
    assert two.flow_standard_deviation is None
    assert three.depth_uncertainty is not None
    assert three.depth_uncertainty.shape == (60, 80)
    assert three.depth_uncertainty.mean() > 0
    assert three.flow_standard_deviation is not None
    assert three.flow_standard_deviation.mean() > 0


def test_released_aligner_stretches_to_the_unit_range(pipe: PerceptionPipeline, frames: Frames) -> None:
    # As large as the network's square: after resizing it would not be quite the range.
    image = np.ascontiguousarray(np.pad(frames[0], ((0, 8), (0, 8), (0, 0)), mode="reflect")[:64, :64])
    depth = pipe(image, tasks=("depth",), ensemble_size=3, aligner="released").depth_relative
    assert depth is not None
    assert depth.min() == pytest.approx(0, abs=1e-6)
    assert depth.max() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("sampler", ["ddim", "ddim_trailing", "dpm_solver", "one_step", "one_step_genpercept"])
def test_every_sampler_runs(pipe: PerceptionPipeline, frames: Frames, sampler: str) -> None:
    assert pipe(*frames, sampler=sampler).depth_relative is not None


def test_samplers_differ(pipe: PerceptionPipeline, frames: Frames) -> None:
    depths = [
        pipe(frames[0], sampler=name, num_inference_steps=steps).depth_relative
        for name, steps in (("ddim", 3), ("ddim_trailing", 3), ("dpm_solver", 3), ("one_step", 1), ("ddim", 1))
    ]
    for i, a in enumerate(depths):
        for b in depths[:i]:
            assert np.abs(np.asarray(a) - np.asarray(b)).max() > 1e-4


def test_a_one_step_sampler_needs_no_step_count(frames: Frames) -> None:
    pipe = PerceptionPipeline.random(64)
    pipe.metadata = dataclasses.replace(pipe.metadata, num_inference_steps=50)
    assert pipe(frames[0], sampler="one_step").depth_relative is not None


def test_strided_views_are_fine(pipe: PerceptionPipeline, frames: Frames) -> None:
    """Conversions hand out BGR images as negative-stride views."""
    image = frames[0]
    view = np.ascontiguousarray(image[..., ::-1])[..., ::-1]
    view.flags.writeable = False
    assert_same(pipe(view), pipe(image))


@pytest.mark.filterwarnings("error")
def test_read_only_frames_do_not_warn(pipe: PerceptionPipeline, frames: Frames) -> None:
    image = frames[0].copy()
    image.flags.writeable = False
    pipe(image)


IMAGE = np.zeros((60, 80, 3), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"image": IMAGE.astype(np.float32)}, "image has dtype float32; convert it to uint8"),
        ({"image": np.full((60, 80, 3), np.nan)}, "image has dtype float64, and it holds NaN"),
        ({"image": IMAGE[..., 0]}, r"image has shape \(60, 80\); expected \(height, width, 3\)"),
        ({"image": IMAGE[:0]}, "none of them zero"),
        ({"image": [[1, 2], [3, 4]]}, "image must be a numpy array of uint8 RGB, not list"),
        ({"next_image": IMAGE[:50]}, "next_image is 80x50 but image is 80x60"),
        ({"next_image": IMAGE.astype(np.int32)}, "next_image has dtype int32"),
        ({"visible_masks": np.zeros((60, 80), np.uint8)}, "visible_masks is empty"),
        ({"visible_masks": np.ones((60, 80), np.float32)}, "visible_masks is float32; expected an integer label image"),
        ({"visible_masks": np.ones((50, 80), np.uint8)}, r"visible_masks has shape \(50, 80\) but image is 80x60"),
        ({"visible_masks": np.full((60, 80), -3)}, "holds the label -3"),
        ({"tasks": ("flow",)}, "task 'flow' needs the argument next_image"),
        ({"tasks": ("amodal",)}, "task 'amodal' needs the argument visible_masks"),
        ({"tasks": ("stereo",)}, "task 'stereo' is unknown; use one of depth, flow, amodal"),
        ({"tasks": "depth"}, r"tasks must be a sequence of names, such as \('depth',\)"),
        ({"tasks": ()}, "tasks is empty; choose from depth, flow, amodal"),
        ({"tasks": ("depth", "depth")}, "names one twice"),
        ({"tasks": 3}, "tasks must be a tuple of names such as"),
        ({"tasks": (["depth"],)}, "tasks must be a tuple of names such as"),
        ({"flip_members": "no"}, "flip_members must be True or False, not 'no'"),
        ({"sampler": "euler"}, "sampler 'euler' is unknown"),
        ({"ensemble_size": 0}, "ensemble_size must be at least 1, not 0"),
        ({"ensemble_size": 2.5}, "ensemble_size must be a whole number, not 2.5"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0; use a whole number from 1"),
        ({"num_inference_steps": "4"}, "num_inference_steps must be a whole number"),
        ({"seed": -1}, "seed must be from 0"),
        ({"aligner": "magic"}, "aligner 'magic' is unknown; use one of standardize, released"),
        ({"resize": "crop"}, "resize 'crop' is unknown; use one of squash, letterbox"),
        ({"sampler": "one_step", "ensemble_size": 3}, "would be identical"),
    ],
)
def test_bad_arguments_are_named(pipe: PerceptionPipeline, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        pipe(**{"image": IMAGE, **arguments})
    assert "\n" not in str(caught.value)


def test_task_that_the_checkpoint_does_not_know(frames: Frames) -> None:
    pipe = PerceptionPipeline.random(64)
    pipe.metadata = dataclasses.replace(pipe.metadata, tasks={"depth": pipe.metadata.tasks["depth"]})
    with pytest.raises(InputError, match="was not trained for task 'flow'; it knows depth"):
        pipe(*frames, tasks=("flow",))
    assert pipe(*frames).flow is None


def test_epsilon_at_one_step_is_refused_but_sampled_as_released(frames: Frames) -> None:
    pipe = PerceptionPipeline.random(64, scheduler_config={**SCHEDULER_CONFIG, "prediction_type": "epsilon"})
    with pytest.raises(InputError, match="cannot do one step"):
        pipe(*frames)
    assert pipe(*frames, num_inference_steps=2).depth_relative is not None
    images = torch.zeros(1, 3, 64, 64)
    assert pipe.sample(images, images, torch.tensor([1000]), 1).shape == (1, 3, 64, 64)


def test_a_task_that_nothing_was_given_for(frames: Frames) -> None:
    pipe = PerceptionPipeline.random(64)
    pipe.metadata = dataclasses.replace(pipe.metadata, tasks={"flow": pipe.metadata.tasks["flow"]})
    with pytest.raises(InputError, match="knows flow only, for which next_image or visible_masks is missing"):
        pipe(frames[0])


def test_one_boolean_mask_is_a_label_image(pipe: PerceptionPipeline, frames: Frames) -> None:
    (instance,) = pipe(frames[0], visible_masks=frames[2] == 7).amodal or []
    assert instance.id == 1
    assert np.array_equal(instance.visible_mask, frames[2] == 7)


SAMPLE = {
    "rgb": torch.zeros(2, 3, 64, 64),
    "prompt": torch.zeros(2, 3, 64, 64),
    "class_labels": torch.tensor([1000] * 2),
}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"num_inference_steps": -1}, "num_inference_steps is -1; use a whole number from 1 to 1000"),
        ({"num_inference_steps": 2.5}, "num_inference_steps is 2.5"),
        ({"num_inference_steps": 1000}, "would begin at timestep 1000"),
        ({"rgb": torch.zeros(2, 3, 64, 64, dtype=torch.uint8)}, "rgb must be a floating-point tensor"),
        ({"rgb": np.zeros((2, 3, 64, 64))}, "rgb must be a floating-point tensor"),
        ({"prompt": torch.full((2, 3, 64, 64), torch.nan)}, "prompt holds NaN"),
        ({"rgb": torch.zeros(0, 3, 64, 64)}, "rgb has shape"),
        ({"latents": torch.zeros(2, 4, 9, 8)}, r"latents has shape \(2, 4, 9, 8\); expected \(B, 4, 8, 8\)"),
        ({"latents": torch.zeros(1, 4, 8, 8)}, "latents has 1 samples but rgb 2"),
        ({"class_labels": [1000, 1000]}, "class_labels must be a tensor of 2 whole numbers"),
        ({"class_labels": torch.tensor([1000.0, 1000.0])}, "class_labels must be a tensor of 2 whole numbers"),
        ({"class_labels": torch.tensor(1000)}, "class_labels must be a tensor of 2 whole numbers"),
    ],
)
def test_sample_refuses_what_would_be_garbage(
    pipe: PerceptionPipeline, arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        pipe.sample(**{**SAMPLE, "num_inference_steps": 1, **arguments})


@pytest.mark.parametrize(
    ("rgb", "prompt", "labels", "sentence"),
    [
        ((1, 3, 32, 32), (1, 3, 64, 64), [1000], r"rgb has shape \(1, 3, 32, 32\); expected \(B, 3, 64, 64\)"),
        ((1, 3, 64, 64), (3, 64, 64), [1000], "prompt has shape"),
        ((2, 3, 64, 64), (2, 3, 64, 64), [1000], "class_labels must be a tensor of 2 whole numbers"),
        ((1, 3, 64, 64), (1, 3, 64, 64), [1004], "class label 1004 is unknown"),
        ((1, 3, 64, 64), (1, 3, 64, 64), [-1], "class label -1 is unknown"),
    ],
)
def test_sample_checks_its_tensors(
    pipe: PerceptionPipeline, rgb: tuple[int, ...], prompt: tuple[int, ...], labels: list[int], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        pipe.sample(torch.zeros(rgb), torch.zeros(prompt), torch.tensor(labels), 1)


def test_sample_with_a_generator_is_repeatable(pipe: PerceptionPipeline) -> None:
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    label = torch.tensor([1002])
    a, b = (pipe.sample(images, images, label, 3, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(a, b)
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    assert torch.equal(pipe.sample(images, images, label, 3, latents=noise), a)
