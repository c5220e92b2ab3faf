"""From the network's images to metres, pixels and masks, and between the camera's frame and the network's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from diffusion_perception_ros import tasks
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.metadata import CheckpointMetadata, TargetEncoding
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.tasks import DecodeContext, Picture, Task, find_task
from diffusion_perception_ros.tasks.geometry import Geometry, Region, resize

SIZES = st.integers(8, 200)


@given(height=SIZES, width=SIZES, resolution=st.sampled_from([32, 64]), mode=st.sampled_from(["squash", "letterbox"]))
def test_there_and_back_again(height: int, width: int, resolution: int, mode: str) -> None:
    """A linear ramp survives both resizings away from the border, whatever the sizes."""
    geometry = Geometry(height, width, resolution, mode)
    ramp = torch.linspace(0, 1, width).expand(1, height, width).contiguous()
    square = geometry.to_network(ramp, "bilinear")
    assert square.shape == (1, resolution, resolution)
    back = geometry.to_input(square)
    assert back.shape == (1, height, width)
    margin = int(np.ceil(max(geometry.pixel_scale) * 1.5))
    inside = slice(margin, width - margin)
    # A network pixel covers pixel_scale input pixels, whose ramp spans that many steps.
    torch.testing.assert_close(back[..., inside], ramp[..., inside], rtol=0, atol=1.5 * geometry.pixel_scale[0] / width)


@given(height=SIZES, width=SIZES)
def test_letterbox_keeps_the_aspect_ratio(height: int, width: int) -> None:
    geometry = Geometry(height, width, 512, "letterbox")
    assert max(geometry.content) == 512
    scale_x, scale_y = geometry.pixel_scale
    assert scale_x == pytest.approx(scale_y, rel=0.05)
    white = geometry.to_network(torch.ones(1, height, width), "bilinear")
    assert white.sum() == pytest.approx(geometry.content[0] * geometry.content[1])


@pytest.mark.parametrize("interpolation", ["nearest", "nearest-exact", "bilinear", "area"])
def test_released_interpolations(interpolation: str) -> None:
    image = torch.rand(3, 48, 80)
    align = False if interpolation == "bilinear" else None
    want = F.interpolate(image[None], size=(64, 64), mode=interpolation, align_corners=align)[0]
    assert torch.equal(Geometry(48, 80, 64).to_network(image, interpolation), want)


@given(height=st.integers(1, 64), width=st.integers(1, 64), channels=st.integers(1, 3))
def test_enlarging_is_what_torch_makes_of_it(height: int, width: int, channels: int) -> None:
    image = torch.rand(channels, height, width)
    want = F.interpolate(image[None], size=(64, 70), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(resize(image, (64, 70), "bilinear"), want, rtol=0, atol=1e-4)
    torch.testing.assert_close(resize(image, (64, 70), "area"), want, rtol=0, atol=1e-4)


def decode(task: str, images: torch.Tensor, context: DecodeContext) -> dict[str, Any]:
    fields = find_task(task).decode(images, context)
    return {name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in fields.items()}


def context(task: str, height: int, width: int, resolution: int = 64, **changes: Any) -> DecodeContext:
    values: dict[str, Any] = {
        "encoding": find_task(task).released,
        "geometry": Geometry(height, width, resolution),
        "flow_reference_size": (512, 384),
        "aligner": "standardize",
        "visible_masks": {},
    }
    return DecodeContext(**(values | changes))


def test_depth_is_not_stretched_per_frame() -> None:
    images = torch.full((1, 1, 1, 3, 64, 64), -0.5)
    images[..., :32, :] = 0.5
    depth = decode("depth", images, context("depth", 64, 64))["depth_relative"]
    assert depth.dtype == np.float32
    assert set(np.unique(depth)) == {0.25, 0.75}
    beyond = decode("depth", images * 10, context("depth", 64, 64))["depth_relative"]
    assert set(np.unique(beyond)) == {0.0, 1.0}


def log_context(**changes: Any) -> DecodeContext:
    return context("depth", 64, 64, encoding=TargetEncoding("log", (1000,), parameters={"log_range": 2.0}), **changes)


@pytest.mark.parametrize("aligner", ["standardize", "released"])
def test_log_depth_is_exponential_and_at_most_one(aligner: str) -> None:
    images = torch.full((1, 1, 1, 3, 64, 64), -0.5)
    images[..., :32, :] = 0.5
    depth = decode("depth", images, log_context(aligner=aligner))["depth_relative"]
    np.testing.assert_allclose(depth[[0, -1], 0], np.exp([-1, -3]), rtol=1e-6)
    beyond = decode("depth", images * 10, log_context())["depth_relative"]
    np.testing.assert_allclose(beyond[[0, -1], 0], np.exp([0, -4]), rtol=1e-6)


METRIC = TargetEncoding("log_metric", labels=(1000,), parameters={"log_range": 2.0, "middle": 5.0})


def test_metric_depth_is_in_metres_or_not_at_all() -> None:
    images = torch.full((1, 1, 1, 3, 64, 64), -0.5)
    images[..., 20:40, :] = 0.5
    images[..., 40:, :] = 3.0  # beyond what the encoding can express
    fields = decode("depth", images, context("depth", 64, 64, encoding=METRIC))
    np.testing.assert_allclose(fields["depth_metric"][[0, 30], 0], 5 * np.exp([-1, 1]), rtol=1e-6)
    assert np.isnan(fields["depth_metric"][50]).all()
    np.testing.assert_allclose(fields["depth_relative"][[0, 30, 50], 0], np.exp([-3, -1, 0]), rtol=1e-6)
    assert "depth_metric" not in decode("depth", images, log_context())
    three = torch.cat([images, images + 0.1, images - 0.1])
    released = context("depth", 64, 64, encoding=METRIC, aligner="released")
    assert "depth_metric" not in decode("depth", three, released)
    aligned = decode("depth", three, context("depth", 64, 64, encoding=METRIC))["depth_metric"]
    np.testing.assert_allclose(aligned[0], fields["depth_metric"][0], rtol=1e-4)


def test_uncertainty_of_log_depth_is_a_share_of_the_depth() -> None:
    ramp = torch.linspace(-0.5, 0.5, 64).expand(64, 64)
    ripple = 0.02 * (torch.arange(64) % 2 * 2 - 1)
    members = torch.stack([ramp - ripple, ramp, ramp + ripple])[:, None, None, None].expand(-1, 1, 1, 3, -1, -1)
    fields = decode("depth", members, log_context())
    share = fields["depth_uncertainty"] / fields["depth_relative"]
    np.testing.assert_allclose(share, 2.0 * 0.02, atol=0.013)
    # The released aligner answers in [0, 1] of the frame, which are -1 and 1 of the encoding.
    released = decode("depth", members, log_context(aligner="released"))
    np.testing.assert_allclose(released["depth_relative"].max(), 1, rtol=1e-5)
    np.testing.assert_allclose(released["depth_relative"].min(), np.exp(-4), rtol=1e-5)


def test_depth_is_the_mean_of_the_channels() -> None:
    images = torch.zeros(1, 1, 1, 3, 64, 64)
    images[:, :, :, 0] = 0.9
    depth = decode("depth", images, context("depth", 30, 40))["depth_relative"]
    np.testing.assert_allclose(depth, (0.3 + 1) / 2, rtol=1e-6)
    assert depth.shape == (30, 40)


@pytest.mark.parametrize(("height", "width"), [(384, 512), (480, 640), (100, 333)])
def test_flow_in_input_pixels(height: int, width: int) -> None:
    """The released rule: u x W / 512 and v x H / 384, with 75 pixels for 1.0."""
    images = torch.empty(1, 1, 2, 3, 64, 64)
    images[:, :, 0], images[:, :, 1] = 0.2, -0.4
    fields = decode("flow", images, context("flow", height, width))
    assert fields["flow"].shape == (height, width, 2)
    np.testing.assert_allclose(fields["flow"][..., 0], 0.2 * 75 * width / 512, rtol=1e-5)
    np.testing.assert_allclose(fields["flow"][..., 1], -0.4 * 75 * height / 384, rtol=1e-5)
    assert fields["max_displacement"] == pytest.approx((75 * width / 512, 75 * height / 384))
    assert "flow_standard_deviation" not in fields


def test_flow_under_letterbox_uses_one_scale_for_the_picture() -> None:
    """640x480 letterboxed to 64x64 shrinks both axes tenfold; the network's v still counts 384 rows for the square."""
    images = torch.full((1, 1, 2, 3, 64, 64), 0.1)
    geometry = Geometry(480, 640, 64, "letterbox")
    flow = decode("flow", images, context("flow", 480, 640, geometry=geometry))["flow"]
    np.testing.assert_allclose(flow[..., 0], 7.5 * 640 / 512, rtol=1e-5)
    np.testing.assert_allclose(flow[..., 1], 7.5 * 640 / 384, rtol=1e-5)


def test_unrepresentable_flow_is_nan() -> None:
    images = torch.zeros(1, 1, 2, 3, 64, 64)
    images[:, :, 1, :, :32] = 1.01
    flow = decode("flow", images, context("flow", 64, 64))["flow"]
    assert np.isnan(flow[:31]).all()
    assert (flow[33:] == 0).all()


def test_flow_ensemble_is_the_mean_with_its_spread() -> None:
    images = torch.zeros(4, 1, 2, 3, 64, 64)
    images[:, :, 0] = torch.tensor([0.0, 0.1, 0.2, 0.3]).view(4, 1, 1, 1, 1)
    fields = decode("flow", images, context("flow", 384, 512))
    np.testing.assert_allclose(fields["flow"][..., 0], 0.15 * 75, rtol=1e-5)
    np.testing.assert_allclose(fields["flow_standard_deviation"], np.std([0, 7.5, 15, 22.5], ddof=1), rtol=1e-5)


def test_flow_in_a_mirror() -> None:
    images = torch.rand(1, 2, 3, 4, 4)
    back = find_task("flow").unmirror(images)
    assert torch.equal(back[:, 0], -images[:, 0].flip(-1))
    assert torch.equal(back[:, 1], images[:, 1].flip(-1))


def square(size: int, low: int, high: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = np.zeros((size, size), bool)
    mask[low:high, low:high] = True
    return mask


def test_amodal_mask_is_what_is_not_white() -> None:
    images = torch.ones(1, 1, 1, 3, 64, 64)
    images[..., 10:40, 10:40] = 0.0
    images[..., 50:60, 50:60] = 240 / 127.5 - 1  # nearly white: background
    images[:, :, :, 1, 45:48, 45:48] = -1.0  # magenta: one dark channel is enough
    visible = square(64, 5, 20)
    (instance,) = decode("amodal", images, context("amodal", 64, 64, visible_masks={3: visible}))["amodal"]
    want = square(64, 10, 40) | visible | square(64, 45, 48)
    assert instance.id == 3
    assert np.array_equal(instance.mask, want)
    assert np.isnan(instance.agreement)
    assert instance.appearance.shape == (64, 64, 3)
    assert tuple(instance.appearance[20, 20]) == (128, 128, 128)
    assert tuple(instance.appearance[46, 46]) == (255, 0, 255)


def test_amodal_masks_as_masks() -> None:
    images = -torch.ones(1, 1, 1, 3, 64, 64)
    images[..., 10:40, 10:40] = 1.0
    encoding = TargetEncoding("mask", labels=(1001,))
    (instance,) = decode(
        "amodal", images, context("amodal", 64, 64, encoding=encoding, visible_masks={1: square(64, 12, 15)})
    )["amodal"]
    assert np.array_equal(instance.mask, square(64, 10, 40))
    assert instance.appearance is None


def test_regions_surround_the_mask_inside_the_image() -> None:
    mask = np.zeros((100, 200), bool)
    mask[40:60, 90:100] = True
    assert Region.around(mask, 2.0, 0.1) == Region(30, 75, 40, 40)
    assert Region.around(mask, 2.0, 0.5) == Region(25, 70, 50, 50)
    assert Region.around(mask, 8.0, 0.1) == Region(0, 15, 100, 160)  # wider than the image is high
    corner = np.zeros((100, 200), bool)
    corner[99, 0] = True
    region = Region.around(corner, 2.0, 0.3)
    assert region == Region(70, 0, 30, 30)
    assert region.moved(9, -9, 100, 200) == region
    assert region.moved(-4, 3, 100, 200) == Region(66, 3, 30, 30)
    assert Region.around(np.ones((100, 200), bool), 2.0, 0.3) == Region(0, 0, 100, 200)


@given(
    height=st.integers(1, 60), width=st.integers(1, 60), context=st.floats(0.5, 9), smallest=st.floats(0.01, 1),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_regions_are_never_empty_or_outside(
    height: int, width: int, context: float, smallest: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < rng.random()
    mask[rng.integers(height), rng.integers(width)] = True
    region = Region.around(mask, context, smallest)
    assert region.height >= 1
    assert region.width >= 1
    assert 0 <= region.top <= height - region.height
    assert 0 <= region.left <= width - region.width
    if context >= 1:
        assert mask[region.slices].sum() == mask.sum()


def test_amodal_masks_in_regions_come_back_to_their_place() -> None:
    encoding = TargetEncoding("mask_in_region", labels=(1001,), parameters={"context": 2.0, "smallest": 0.1})
    visible = {1: square(64, 12, 20), 5: square(64, 50, 54)}
    task = find_task("amodal")
    regions = task.regions(encoding, visible)
    assert regions == {1: Region(8, 8, 16, 16), 5: Region(48, 48, 8, 8)}
    assert task.regions(TargetEncoding("mask", labels=(1001,)), visible) == {}
    images = -torch.ones(3, 2, 1, 3, 64, 64)
    images[:, 0, ..., :32, :32] = 1.0  # the upper left quarter of the first region
    images[2, 0] = -1.0
    images[:, 1] = 1.0
    first, second = task.decode(
        images, context("amodal", 64, 64, encoding=encoding, visible_masks=visible, regions=regions)
    )["amodal"]
    assert np.array_equal(first.mask, square(64, 8, 16) | visible[1])
    assert np.array_equal(second.mask, square(64, 48, 56))
    assert second.agreement == 1
    assert first.agreement == pytest.approx((1 + 1 + 64 / 112) / 3)


def test_amodal_ensemble_is_the_median_and_knows_its_agreement() -> None:
    images = torch.ones(3, 1, 1, 3, 64, 64)
    images[0, ..., 10:30, 10:30] = -1.0
    images[1:, ..., 10:40, 10:40] = -1.0
    visible = square(64, 10, 12)
    (instance,) = decode("amodal", images, context("amodal", 64, 64, visible_masks={1: visible}))["amodal"]
    assert np.array_equal(instance.mask, square(64, 10, 40))
    assert instance.agreement == pytest.approx((20**2 / 30**2 + 1 + 1) / 3)


def test_amodal_masks_are_thresholded_after_resizing() -> None:
    images = torch.ones(1, 1, 1, 3, 64, 64)
    images[..., :32] = -1.0
    masks = {1: np.zeros((200, 300), bool)}
    (instance,) = decode("amodal", images, context("amodal", 200, 300, visible_masks=masks))["amodal"]
    assert instance.mask.shape == (200, 300)
    assert instance.mask[:, :148].all()
    assert not instance.mask[:, 155:].any()


def normals_of(*vectors: tuple[float, float, float]) -> torch.Tensor:
    """(members, 1, 1, 3, 64, 64): the same vector everywhere, one a member."""
    members = torch.tensor(vectors, dtype=torch.float32).view(-1, 1, 1, 3, 1, 1)
    return members.expand(-1, -1, -1, -1, 64, 64).contiguous()


UNIT_VECTOR = TargetEncoding("unit_vector", labels=(1005,))


def decode_normals(images: torch.Tensor, height: int = 64, width: int = 64) -> np.ndarray[Any, np.dtype[np.float32]]:
    normals = decode("normals", images, context("normals", height, width, encoding=UNIT_VECTOR))["normals"]
    assert normals.shape == (height, width, 3)
    assert normals.dtype == np.float32
    return np.asarray(normals)


def test_normals_have_unit_length_or_none() -> None:
    images = normals_of((0.3, 0, -0.4))
    images[..., :10] = torch.tensor([0.1, 0.1, 0.0]).view(3, 1, 1)
    normals = decode_normals(images)
    np.testing.assert_allclose(normals[:, 10:], np.broadcast_to([0.6, 0, -0.8], (64, 54, 3)), rtol=1e-6)
    assert np.isnan(normals[:, :10]).all()


def test_normals_between_two_walls_are_normalised_after_resizing() -> None:
    images = normals_of((1, 0, 0))
    images[..., 32:] = torch.tensor([0.0, 0.0, -1.0]).view(3, 1, 1)
    lengths = np.linalg.norm(decode_normals(images, 100, 150), axis=2)
    np.testing.assert_allclose(lengths, 1, rtol=1e-6)


def test_normals_of_an_ensemble_are_the_mean_direction() -> None:
    normals = decode_normals(normals_of((1, 0, 0), (0, 0, -1)))
    np.testing.assert_allclose(normals[0, 0], [np.sqrt(0.5), 0, -np.sqrt(0.5)], rtol=1e-6)
    contradiction = decode_normals(normals_of((1, 0, 0), (-1, 0, 0)))
    assert np.isnan(contradiction).all()


def test_normals_in_a_mirror() -> None:
    images = torch.rand(1, 1, 3, 4, 4)
    back = find_task("normals").unmirror(images)
    assert torch.equal(back[0, 0, 0], -images[0, 0, 0].flip(-1))
    assert torch.equal(back[0, 0, 1:], images[0, 0, 1:].flip(-1))


class Reflectance(Task):
    """A further task, as a user would add it."""

    name = "reflectance"
    kinds: ClassVar[dict[str, tuple[str, ...]]] = {"rgb": ()}

    def prompts(self, encoding: TargetEncoding, instances: Sequence[int]) -> list[Picture]:
        return [Picture("ones")]

    def decode(self, images: torch.Tensor, context: DecodeContext) -> dict[str, Any]:
        return {"reflectance": context.geometry.to_input(images[0, 0, 0]).clamp(-1, 1).numpy()}


def test_a_further_task_is_one_class_and_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_TASKS", dict(tasks._TASKS))
    tasks.register(Reflectance())
    with pytest.raises(InputError, match="registered already"):
        tasks.register(Reflectance())
    small = PerceptionPipeline.random(64, num_labels=1006, patch_labels=(1000, 1001, 1002, 1003, 1005))
    encodings = {**small.metadata.tasks, "reflectance": TargetEncoding("rgb", labels=(1005,))}
    metadata = CheckpointMetadata(64, encodings, sampler="ddim_trailing", num_inference_steps=1)
    pipe = PerceptionPipeline(small.transformer, small.codec, small.scheduler_config, metadata)
    output = pipe(np.zeros((30, 40, 3), np.uint8), tasks=("depth", "reflectance"))
    assert output.depth_relative is not None
    assert output.extra["reflectance"].shape == (3, 30, 40)
    assert np.abs(output.extra["reflectance"]).max() <= 1
