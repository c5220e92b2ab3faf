"""Depth that continues the frame before."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from replay_bags import PERIOD, START, Recorded, as_pipeline, image, read_bag, write_bag

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.queries import Plan
from diffusion_perception_ros.replay import ReplaySettings, replay
from diffusion_perception_ros.sampling.samplers import SAMPLERS
from diffusion_perception_ros.sampling.warm_start import warm_start
from diffusion_perception_ros.scenes import draw_scene, render_images
from diffusion_perception_ros.stream import PerceptionStream
from diffusion_perception_ros.temporal.agreement import agreement
from diffusion_perception_ros.temporal.moving_average import MEMORY, moving_average
from diffusion_perception_ros.temporal.splatting import nearness, splat

Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def embedded() -> PerceptionPipeline:
    return PerceptionPipeline.embedded("cpu")


@pytest.fixture(scope="module")
def scene() -> list[Image]:
    """Five frames of one scene, then one of another."""
    same = render_images([draw_scene(899_000_000)], range(5), 128, 128)[0]
    other = render_images([draw_scene(899_000_003)], [0], 128, 128)[0]
    return [frame.numpy() for frame in torch.cat([same, other])]


def run(stream: PerceptionStream, frames: list[Image], mode: str, *, batch: int = 1, **arguments: Any) -> list[Any]:
    """As a replay does: depth of a frame with the flow to the next."""
    requests = []
    for i, frame in enumerate(frames):
        last = i + 1 == len(frames)
        requests.append(
            stream.request(
                frame,
                None if last else frames[i + 1],
                frame=i,
                next_frame=None if last else i + 1,
                tasks=("depth",) if last else ("depth", "flow"),
                temporal=mode,
                **arguments,
            )
        )
    return [output for i in range(0, len(requests), batch) for output in stream.batch(requests[i : i + batch])]


def asked(pipe: PerceptionPipeline, monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[Any, ...]]]:
    """What each call of the network is asked from now on: frame, next frame and task names."""
    calls: list[list[tuple[Any, ...]]] = []
    answers = PerceptionPipeline.batch

    def batch(self: PerceptionPipeline, requests: Any, *more: Any) -> Any:
        calls.append([(r.frame, r.next_frame, *(task.name for task in r.tasks)) for r in requests])
        return answers(self, requests, *more)

    monkeypatch.setattr(PerceptionPipeline, "batch", batch)
    return calls


def test_splatting_moves_whole_pixels_exactly_and_leaves_holes() -> None:
    values = torch.rand(1, 2, 6, 8)
    flow = torch.tensor([2.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 6, 8)
    moved, coverage = splat(values, flow, torch.rand(1, 6, 8) + 0.1)
    torch.testing.assert_close(moved[..., 1:, 2:], values[..., :-1, :-2])
    assert (coverage[:, 1:, 2:] == 1).all()
    assert not coverage[:, 0].any()
    assert not coverage[..., :2].any()


def test_splatting_shares_between_neighbours() -> None:
    values = torch.arange(8.0).expand(1, 1, 4, 8)
    moved, coverage = splat(values, torch.tensor([0.25, 0.0]).view(1, 2, 1, 1).expand(1, 2, 4, 8), torch.ones(1, 4, 8))
    torch.testing.assert_close(moved[0, 0, :, 1:], (torch.arange(1.0, 8.0) - 0.25).expand(4, 7))
    torch.testing.assert_close(coverage[0, :, 0], torch.full((4,), 0.75))


def test_of_two_that_arrive_the_nearer_hides_the_other() -> None:
    depth = torch.tensor([[[0.8, 0.0, -0.2]]])
    flow = torch.tensor([2.0, 0.0, 0.0]).expand(1, 1, 1, 3).repeat(1, 2, 1, 1)
    flow[:, 1] = 0
    moved, coverage = splat(depth[None], flow, nearness(depth))
    assert moved[0, 0, 0, 2].item() == pytest.approx(-0.2, abs=1e-3)
    assert coverage[0, 0].tolist() == [0, 1, 2]


def test_a_brighter_frame_agrees_another_one_does_not() -> None:
    generator = torch.Generator().manual_seed(0)
    frame, other = torch.nn.functional.interpolate(
        torch.rand(2, 3, 8, 8, generator=generator) * 1.2 - 0.6, scale_factor=4, mode="bilinear"
    )
    everywhere = torch.ones(32, 32)
    agree, goes_on = agreement(frame, frame + 0.2, everywhere)
    assert goes_on
    assert agree.min() > 0.99
    agree, goes_on = agreement(frame, other, everywhere)
    assert not goes_on
    assert not agree.any()
    changed = frame.clone()
    changed[:, :8, :8] += 1
    agree, goes_on = agreement(frame, changed, everywhere)
    assert goes_on
    assert agree[1:7, 1:7].max() < 0.2
    assert agree[16:, 16:].min() > 0.8
    few = torch.zeros(32, 32)
    few[:, :4] = 1
    assert not agreement(frame, frame, few)[1]


def test_the_average_is_the_mean_of_all_frames_up_to_its_memory() -> None:
    frames = torch.rand(MEMORY + 3, 1, 4, 4)
    mean, count, all_agree = frames[0], torch.ones(4, 4), torch.ones(4, 4)
    for i, frame in enumerate(frames[1:], 1):
        mean, count = moving_average(mean, count, frame, all_agree, has_scale=False)
        if i <= MEMORY:
            torch.testing.assert_close(mean, frames[: i + 1].mean(dim=0))
    assert count.max() == MEMORY + 1


@pytest.mark.parametrize("has_scale", [False, True])
def test_pixels_without_a_past_fit_to_those_with_one(has_scale: bool) -> None:
    """The same surface, said in two units: the result is that surface in a third one, without a seam."""
    surface = torch.rand(1, 8, 8)
    agree = torch.ones(8, 8)
    agree[:, :3] = 0
    current = surface * 2 - 0.4 if has_scale else surface - 0.4
    mean, _ = moving_average(surface, torch.full((8, 8), 3.0), current, agree, has_scale=has_scale)
    scale, shift = np.polyfit(surface.flatten(), mean.flatten(), 1)
    torch.testing.assert_close(mean, surface * scale + shift, atol=1e-5, rtol=0)
    assert scale == pytest.approx(0.75 + 2 * 0.25 if has_scale else 1, abs=1e-4)
    unrelated, _ = moving_average(surface, torch.ones(8, 8), current, torch.zeros(8, 8), has_scale=has_scale)
    torch.testing.assert_close(unrelated, current)


@pytest.mark.parametrize("name", ["ddim_trailing", "dpm_solver"])
@pytest.mark.parametrize("steps", [1, 2])
def test_a_warm_start_begins_in_the_middle(pipe: PerceptionPipeline, name: str, steps: int) -> None:
    """With a network that says what the clean latent is, the sampler arrives there."""
    clean, noise = torch.rand(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    start = clean.clone()
    start[:, :, :2] = torch.nan
    scheduler = SAMPLERS[name].scheduler(
        {**pipe.scheduler_config, "prediction_type": "sample", "set_alpha_to_one": True}
    )
    latents, first = warm_start(scheduler, steps, start, noise)
    assert len(scheduler.timesteps[first:]) == steps
    assert scheduler.timesteps[first] == pytest.approx(499, abs=1)
    assert torch.equal(latents[:, :, :2], noise[:, :, :2])
    for timestep in scheduler.timesteps[first:]:
        latents = scheduler.step(clean, timestep, latents).prev_sample
    torch.testing.assert_close(latents[:, :, 2:], clean[:, :, 2:], atol=1e-3, rtol=0)


@pytest.mark.parametrize("mode", ["moving_average", "warm_start"])
def test_depth_continues_until_the_scene_is_cut(embedded: PerceptionPipeline, scene: list[Image], mode: str) -> None:
    outputs = run(PerceptionStream(embedded), scene, mode)
    alone = run(PerceptionStream(embedded), scene, "off")
    assert [output.warm_started for output in outputs] == [False, True, True, True, True, False]
    assert not any(output.warm_started for output in alone)
    for i in (0, 5):
        np.testing.assert_allclose(outputs[i].depth_relative, alone[i].depth_relative, atol=1e-5)
    assert np.abs(outputs[3].depth_relative - alone[3].depth_relative).max() > 1e-3
    for output, other in zip(outputs[:5], alone[:5], strict=True):
        np.testing.assert_allclose(output.flow, other.flow, atol=1e-3)


def test_a_still_camera_sees_the_mean_of_its_noise(embedded: PerceptionPipeline, scene: list[Image]) -> None:
    stream = PerceptionStream(embedded)
    still: list[Any] = [
        stream(scene[0], frame=i, seed=i, tasks=("depth",), temporal="moving_average") for i in range(4)
    ]
    alone: list[Any] = [embedded(scene[0], seed=i, tasks=("depth",)) for i in range(4)]
    steps = [np.abs(a.depth_relative - b.depth_relative).mean() for a, b in itertools.pairwise(still)]
    jumps = [np.abs(a.depth_relative - b.depth_relative).mean() for a, b in itertools.pairwise(alone)]
    assert steps[-1] < 0.5 * jumps[-1]


@pytest.mark.parametrize("options", [{}, {"resize": "letterbox"}, {"ensemble_size": 3, "flip_members": True}])
def test_several_frames_at_once_give_what_one_after_the_other_does(
    embedded: PerceptionPipeline, scene: list[Image], options: dict[str, Any]
) -> None:
    frames = [np.ascontiguousarray(frame[:96]) for frame in scene[2:]]
    single = run(PerceptionStream(embedded), frames, "moving_average", **options)
    together = run(PerceptionStream(embedded), frames, "moving_average", batch=3, **options)
    for a, b in zip(single, together, strict=True):
        assert a.warm_started == b.warm_started
        np.testing.assert_allclose(a.depth_relative, b.depth_relative, atol=1e-4)
    assert [output.warm_started for output in single] == [False, True, True, False]


def test_members_of_a_warm_start_keep_their_orientation(embedded: PerceptionPipeline, scene: list[Image]) -> None:
    options = {"ensemble_size": 2, "flip_members": True}
    outputs = run(PerceptionStream(embedded), scene[:2], "warm_start", **options)
    alone = run(PerceptionStream(embedded), scene[:2], "off", **options)
    assert outputs[1].warm_started
    assert np.corrcoef(outputs[1].depth_relative.flat, alone[1].depth_relative.flat)[0, 1] > 0.95


def test_flow_is_asked_for_only_where_it_is_missing(
    embedded: PerceptionPipeline, scene: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = PerceptionStream(embedded)
    calls = asked(embedded, monkeypatch)
    run(stream, scene[:3], "moving_average")
    assert calls == [[(0, 1, "depth", "flow")], [(1, 2, "depth", "flow")], [(2, None, "depth")]]
    # A live camera: depth of the newest frame beside the flow that leads to it.
    calls.clear()
    live = [
        stream.request(scene[3], frame=3, tasks=("depth",), temporal="moving_average"),
        stream.request(scene[2], scene[3], frame=2, next_frame=3, tasks=("flow",), temporal="moving_average"),
    ]
    assert [output.warm_started for output in stream.batch(live)] == [True, False]
    assert calls == [[(3, None, "depth"), (2, 3, "flow")]]
    # Frames were dropped, or nobody asks for flow.
    calls.clear()
    assert stream(scene[4], frame=5, tasks=("depth",), temporal="moving_average").warm_started
    assert calls == [[(5, None, "depth"), (3, 5, "flow")]]


def test_nothing_continues_over_a_reset_a_segment_another_size_or_camera(
    embedded: PerceptionPipeline, scene: list[Image]
) -> None:
    stream = PerceptionStream(embedded)
    options: dict[str, Any] = {"tasks": ("depth",), "temporal": "moving_average"}

    def continues(image: Image, frame: int, **more: Any) -> bool:
        return bool(stream(image, frame=frame, **options, **more).warm_started)

    assert [continues(scene[0], 0), continues(scene[1], 1)] == [False, True]
    assert not continues(scene[2], 2, segment=1)
    assert continues(scene[3], 3, segment=1)
    assert not continues(scene[3], 3, camera="left")
    stream.reset()
    assert not continues(scene[4], 4, segment=1)
    assert not continues(np.ascontiguousarray(scene[3][:64]), 5, segment=1)
    assert not stream(scene[0], frame=None, **options).warm_started
    stream(scene[1], frame=7, tasks=("depth",))
    assert not continues(scene[1], 8)


def test_what_cannot_work_is_refused(pipe: PerceptionPipeline, scene: list[Image]) -> None:
    stream = PerceptionStream(pipe)
    with pytest.raises(InputError, match="'sometimes' is unknown; use one of off, moving_average, warm_start"):
        stream.request(scene[0], frame=0, tasks=("depth",), temporal="sometimes")
    with pytest.raises(InputError, match="unlike 'ddim'; use 'ddim_trailing'"):
        stream.request(scene[0], frame=0, tasks=("depth",), temporal="warm_start", sampler="ddim")
    with pytest.raises(InputError, match="unlike 'one_step'"):
        stream.request(scene[0], frame=0, tasks=("depth",), temporal="warm_start", sampler="one_step")
    stream.request(scene[0], frame=0, tasks=("depth",), temporal="moving_average", sampler="one_step")


def test_answers_of_a_plan_are_decoded_as_they_are(pipe: PerceptionPipeline, scene: list[Image]) -> None:
    plan = Plan(pipe.metadata, pipe.request(scene[0], tasks=("depth",)))
    output = plan.decode({"depth": torch.full((1, 1, 1, 3, 64, 64), 0.5)})
    assert output.depth_relative is not None
    assert (output.depth_relative == 0.75).all()


def test_a_replay_continues_if_it_is_asked_to(embedded: PerceptionPipeline, scene: list[Image], tmp_path: Path) -> None:
    source = write_bag(
        tmp_path / "source",
        [
            Recorded("/camera/image_raw", image(START + i * PERIOD, frame), START + i * PERIOD)
            for i, frame in enumerate(scene[:3])
        ],
    )
    found = {}
    for mode in ("off", "moving_average"):
        replay(source, tmp_path / mode, embedded, ReplaySettings(temporal=mode, batch_size=2))
        found[mode] = read_bag(tmp_path / mode)
    status = {
        mode: [read.message.warm_started for read in topics["/perception/status"]] for mode, topics in found.items()
    }
    assert status == {"off": [False] * 3, "moving_average": [False, True, True]}
    with pytest.raises(InputError, match="unknown"):
        replay(source, tmp_path / "x", as_pipeline(embedded), ReplaySettings(temporal="x"))  # type: ignore[arg-type]
