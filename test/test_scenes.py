"""The truth of rendered scenes, held against itself: every field follows from others by another way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import grid_sample

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.scenes import (
    EVALUATION_SEED,
    MAX_INSTANCES,
    Frames,
    draw_scene,
    render,
    render_images,
    render_pairs,
)

seeds = st.integers(0, 2**31)
few = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def pixel_grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    return x, y


def sample(image: Tensor, x: Tensor, y: Tensor, mode: str = "bilinear") -> Tensor:
    """(H, W, C) values of an (H, W, C) image at pixel positions."""
    height, width = image.shape[:2]
    grid = torch.stack([x / (width - 1) * 2 - 1, y / (height - 1) * 2 - 1], -1)[None].to(image.dtype)
    return grid_sample(image.permute(2, 0, 1)[None], grid, mode=mode, align_corners=True)[0].permute(1, 2, 0)


def psnr(difference: Tensor) -> float:
    return float(10 * torch.log10(255**2 / (difference**2).mean().clamp(min=1e-3)))


def points(frames: Frames, scene: int, time: int) -> Tensor:
    """(H, W, 3) float64 places in the camera's frame, from depth and intrinsics alone."""
    depth = frames.depth[scene, time].double()
    x, y = pixel_grid(*depth.shape)
    k = frames.intrinsics[scene]
    return torch.stack([(x - k[0, 2]) / k[0, 0] * depth, (y - k[1, 2]) / k[1, 1] * depth, depth], -1)


@pytest.fixture(scope="module")
def evaluation() -> Frames:
    """Two ideal frames of 24 evaluation scenes."""
    scenes = [draw_scene(EVALUATION_SEED + k) for k in range(24)]
    return render(scenes, [0, 1], 96, 128, ideal=True)


def test_warping_the_next_frame_by_the_flow_gives_the_frame(evaluation: Frames) -> None:
    warped, unwarped = [], []
    x, y = pixel_grid(96, 128)
    for k in range(24):
        first, second = evaluation.image[k].float()
        flow, valid = evaluation.flow[k, 0], evaluation.flow_valid[k, 0]
        moved = sample(second, x + flow[..., 0], y + flow[..., 1])
        warped.append(psnr((moved - first)[valid]))
        unwarped.append(psnr((second - first)[valid]))
    # What is left are resampling, moving shadows and highlights.
    assert np.median(warped) > 31
    assert min(warped) > 20
    assert np.median(warped) > np.median(unwarped) + 6


def test_a_quarter_of_a_pixel_would_be_noticed(evaluation: Frames) -> None:
    # That image and truth are sampled at the same places is worth a test of its own.
    x, y = pixel_grid(96, 128)
    right: list[float] = []
    off: list[float] = []
    for k in range(24):
        first, second = evaluation.image[k].float()
        flow, valid = evaluation.flow[k, 0], evaluation.flow_valid[k, 0]
        for shift, results in ((0.0, right), (0.25, off), (-0.25, off)):
            results.append(psnr((sample(second, x + flow[..., 0] + shift, y + flow[..., 1]) - first)[valid]))
    assert np.median(right) > np.median(off) + 1


def test_flow_of_the_static_world_is_depth_reprojected_by_the_camera(evaluation: Frames) -> None:
    x, y = pixel_grid(96, 128)
    checked = 0
    for k in range(24):
        static = (evaluation.labels[k, 0] == 0) & evaluation.depth[k, 0].isfinite()
        now, later = evaluation.camera_to_world[k]
        relative = torch.linalg.inv(later) @ now
        place = points(evaluation, k, 0)[static] @ relative[:3, :3].T + relative[:3, 3]
        expected = place @ evaluation.intrinsics[k].T
        expected = expected[:, :2] / expected[:, 2:] - torch.stack([x[static], y[static]], -1)
        ahead = place[:, 2] > 0.05
        torch.testing.assert_close(evaluation.flow[k, 0][static][ahead].double(), expected[ahead], atol=2e-3, rtol=1e-4)
        checked += int(ahead.sum())
    assert checked > 100_000


def test_flow_of_instances_is_depth_moved_by_their_poses(evaluation: Frames) -> None:
    x, y = pixel_grid(96, 128)
    moving = 0
    for k in range(24):
        now, later = evaluation.camera_to_world[k]
        for instance in evaluation.labels[k, 0].unique().tolist():
            if instance == 0:
                continue
            mask = evaluation.labels[k, 0] == instance
            before, after = evaluation.body_to_world[k, :, instance]
            relative = torch.linalg.inv(later) @ after @ torch.linalg.inv(before) @ now
            place = points(evaluation, k, 0)[mask] @ relative[:3, :3].T + relative[:3, 3]
            expected = place @ evaluation.intrinsics[k].T
            expected = expected[:, :2] / expected[:, 2:] - torch.stack([x[mask], y[mask]], -1)
            torch.testing.assert_close(evaluation.flow[k, 0][mask].double(), expected, atol=2e-3, rtol=1e-4)
            moving += bool((before - after).abs().max() > 1e-3)
    assert moving > 30


def test_flow_leads_to_the_depth_of_the_next_frame(evaluation: Frames) -> None:
    x, y = pixel_grid(96, 128)
    for k in range(24):
        flow, depth = evaluation.flow[k, 0], evaluation.depth[k]
        static = (evaluation.labels[k, 0] == 0) & evaluation.flow_valid[k, 0] & depth[0].isfinite()
        now, later = evaluation.camera_to_world[k]
        relative = torch.linalg.inv(later) @ now
        expected = (points(evaluation, k, 0) @ relative[:3, :3].T + relative[:3, 3])[..., 2][static]
        found = sample(depth[1][..., None], x + flow[..., 0], y + flow[..., 1])[..., 0][static].double()
        # Bilinear depths mix both sides of an outline.
        close = (found - expected).abs() < 0.03 * expected
        assert float(close.double().mean()) > 0.93


def test_hidden_places_are_invalid(evaluation: Frames) -> None:
    # Seen from the other side: where the next frame shows something nearer than the place, flow can't be valid.
    x, y = pixel_grid(96, 128)
    wrong = hidden = 0
    for k in range(24):
        flow = evaluation.flow[k, 0]
        static = (evaluation.labels[k, 0] == 0) & evaluation.depth[k, 0].isfinite()
        now, later = evaluation.camera_to_world[k]
        relative = torch.linalg.inv(later) @ now
        expected = (points(evaluation, k, 0) @ relative[:3, :3].T + relative[:3, 3])[..., 2]
        next_x, next_y = x + flow[..., 0], y + flow[..., 1]
        inside = (next_x >= 1) & (next_x <= 126) & (next_y >= 1) & (next_y <= 94)
        # The farthest of the nearest place's neighbours is still nearer than the place.
        local = -torch.nn.functional.max_pool2d(-1 / evaluation.depth[k, 1][None, None], 3, 1, 1)[0, 0]
        found = 1 / sample(local[..., None], next_x, next_y, "nearest")[..., 0]
        covered = static & inside & (found < 0.9 * expected)
        hidden += int(covered.sum())
        wrong += int((covered & evaluation.flow_valid[k, 0]).sum())
    assert hidden > 500
    assert wrong <= 0.002 * hidden


def test_normals_agree_with_the_depth_of_planes(evaluation: Frames) -> None:
    errors = []
    for k in range(24):
        place, normal = points(evaluation, k, 0), evaluation.normals[k, 0].double()
        tangent_x = place[1:-1, 2:] - place[1:-1, :-2]
        tangent_y = place[2:, 1:-1] - place[:-2, 1:-1]
        measured = torch.linalg.cross(tangent_y, tangent_x)
        measured = measured / measured.norm(dim=-1, keepdim=True)
        inner = normal[1:-1, 1:-1]
        # Planar: the normal is the same all around.
        planar = torch.ones(inner.shape[:2], dtype=torch.bool)
        for dy in range(3):
            for dx in range(3):
                neighbour = normal[dy : dy + 94, dx : dx + 126]
                planar &= (neighbour - inner).abs().amax(-1) < 1e-6
                planar &= evaluation.labels[k, 0, dy : dy + 94, dx : dx + 126] == evaluation.labels[k, 0, 1:-1, 1:-1]
        planar &= (inner.norm(dim=-1) > 0.5) & measured.isfinite().all(-1)
        errors.append((measured - inner)[planar].abs().amax(-1))
    error = torch.cat(errors)
    assert len(error) > 50_000
    # Parallel planes behind one another, where the outline cuts the difference, are the rest.
    assert float((error < 1e-3).double().mean()) > 0.97


@few
@given(seed=seeds, size=st.sampled_from([(24, 32), (32, 32), (40, 24)]))
def test_invariants(seed: int, size: tuple[int, int]) -> None:
    height, width = size
    scene = draw_scene(seed)
    frames = render([scene], [0, 5], height, width)
    assert 3 <= len(scene.names) <= MAX_INSTANCES
    assert frames.image.shape == (1, 2, height, width, 3)
    assert bool((frames.amodal | ~frames.visible).all())
    assert bool((frames.visible.sum(2) <= 1).all())
    assert not frames.amodal[:, :, len(scene.names) :].any()
    assert int(frames.labels.max()) <= len(scene.names)
    sky = frames.depth.isinf()
    assert bool((frames.depth > 0).all())
    length = frames.normals.norm(dim=-1)
    torch.testing.assert_close(length[~sky], torch.ones_like(length[~sky]), atol=1e-4, rtol=0)
    assert not frames.normals[sky].any()
    for time in range(2):
        visible = ~sky[0, time]
        towards = (frames.normals[0, time].double() * points(frames, 0, time)).sum(-1)[visible]
        assert bool((towards <= 1e-6).all())
    assert bool(frames.flow.isfinite().all())
    x, y = pixel_grid(height, width)
    next_x, next_y = x + frames.flow[..., 0], y + frames.flow[..., 1]
    inside = (next_x > -0.01) & (next_x < width - 0.99) & (next_y > -0.01) & (next_y < height - 0.99)
    assert bool((inside | ~frames.flow_valid).all())


@few
@given(seed=seeds)
def test_a_frame_depends_on_its_seed_and_time_only(seed: int) -> None:
    scenes = [draw_scene(seed + 1), draw_scene(seed), draw_scene(seed + 2)]
    together = render(scenes, [2, 3], 32, 40)
    alone = render([draw_scene(seed)], [3], 32, 40)
    for name, value in vars(together).items():
        first, second = (value[1], getattr(alone, name)[0])
        if name != "intrinsics":
            first, second = first[1], second[0]
        if name in ("image", "labels"):
            assert int((first.int() - second.int()).abs().max()) == 0
        else:
            torch.testing.assert_close(first, second, atol=0, rtol=0)
    assert not torch.equal(together.image[0, 0], together.image[1, 0])


def test_scenes_side_by_side_in_one_portion_are_those_rendered_one_by_one() -> None:
    # Other devices than a CPU render many scenes at once.
    from diffusion_perception_ros.scenes.render import _image, _truth, _view

    scenes = [draw_scene(seed) for seed in range(40, 46)]
    apart = render(scenes, [1], 48, 48)
    view = _view(scenes, [1] * 6, 48, 48, torch.device("cpu"))
    image, truth = _image(view, ideal=False), _truth(view)
    assert int((image.int() - apart.image[:, 0].int()).abs().max()) <= 2
    assert torch.equal(truth["labels"], apart.labels[:, 0])
    assert torch.equal(truth["amodal"], apart.amodal[:, 0])
    assert torch.equal(truth["flow_valid"], apart.flow_valid[:, 0])
    torch.testing.assert_close(truth["depth"], apart.depth[:, 0])
    torch.testing.assert_close(truth["flow"], apart.flow[:, 0], atol=1e-4, rtol=1e-5)


def test_images_alone_are_those_of_whole_frames() -> None:
    scene = draw_scene(7)
    assert torch.equal(render_images([scene], [0, 4], 40, 56), render([scene], [0, 4], 40, 56).image)


def test_consecutive_frames_differ_little_and_long_sequences_stay_in_place() -> None:
    scene = draw_scene(11)
    poses = scene.camera.poses(list(range(0, 2000, 7)))[:, 0, :3, 3]
    assert np.abs(poses - poses[0]).max() < 3.0
    rotation = scene.motion.poses([0, 1999])[..., :3, :3]
    np.testing.assert_allclose(
        rotation @ rotation.swapaxes(-1, -2), np.broadcast_to(np.eye(3), rotation.shape), atol=1e-12
    )


def test_noise_is_the_sensors_only() -> None:
    scene = draw_scene(3)
    ideal, real = render([scene], [0], 48, 48, ideal=True), render([scene], [0], 48, 48)
    assert not torch.equal(ideal.image, real.image)
    assert torch.equal(ideal.depth, real.depth)
    assert torch.equal(ideal.flow, real.flow)


def test_pairs_ask_for_a_partly_hidden_instance() -> None:
    pairs = render_pairs(range(60, 84), 64, 64)
    assert pairs.image.shape == pairs.next_image.shape == (24, 64, 64, 3)
    assert bool((pairs.amodal | ~pairs.visible).all())
    area, whole = pairs.visible.sum((1, 2)), pairs.amodal.sum((1, 2))
    assert bool((area > 0).all())
    assert float((area < 0.92 * whole).double().mean()) > 0.4
    frames = render([draw_scene(60)], [0, 1], 64, 64)
    assert torch.equal(pairs.image[0], frames.image[0, 0])
    assert torch.equal(pairs.next_image[0], frames.image[0, 1])
    assert torch.equal(pairs.visible[0], frames.labels[0, 0] == pairs.instance[0])


def test_the_world_is_varied() -> None:
    pairs = render_pairs(range(EVALUATION_SEED, EVALUATION_SEED + 48), 48, 48)
    finite = pairs.depth.isfinite()
    assert 0.02 < float((~finite).double().mean()) < 0.3
    length = pairs.flow.norm(dim=-1)[pairs.flow_valid] * 128 / 48
    assert 1.5 < float(length.mean()) < 5
    far = torch.stack([depth[depth.isfinite()].quantile(0.9) for depth in pairs.depth])
    assert float(far.quantile(0.1)) < 3
    assert float(far.quantile(0.9)) > 10
    brightness = pairs.image.float().mean((1, 2, 3))
    assert float(brightness.std()) > 15


@pytest.mark.parametrize("seed", [562, 632, 800, 1500])
def test_a_setting_without_room_is_drawn_again(seed: int) -> None:
    assert 3 <= len(draw_scene(seed).names) <= MAX_INSTANCES


def test_what_cannot_be_rendered_is_refused() -> None:
    scene = draw_scene(0)
    with pytest.raises(InputError, match="no frame to render"):
        render([], [0], 32, 32)
    with pytest.raises(InputError, match="no frame to render"):
        render([scene], [], 32, 32)
    with pytest.raises(InputError, match="too small"):
        render([scene], [0], 4, 32)
