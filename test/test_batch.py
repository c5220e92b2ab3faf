"""Several requests at once: each is answered as if it had been alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.stream import PerceptionStream

Clip = list[np.ndarray[Any, np.dtype[np.uint8]]]


@pytest.fixture(scope="module")
def clip() -> Clip:
    coarse = np.random.default_rng(1).integers(0, 256, (5, 12, 16, 3)).astype(np.uint8)
    return list(coarse.repeat(5, axis=1).repeat(5, axis=2))


@pytest.fixture
def encoded(pipe: PerceptionPipeline) -> Iterator[list[int]]:
    """The sizes of the batches that the codec encodes."""
    sizes: list[int] = []
    encode = pipe.codec.encode

    def counted(images: Tensor) -> Tensor:
        sizes.append(len(images))
        return encode(images)

    pipe.codec.encode = counted  # type: ignore[method-assign]
    yield sizes
    del pipe.codec.encode


def labels(shape: tuple[int, ...], *corners: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    masks = np.zeros(shape[:2], np.uint8)
    for instance, corner in enumerate(corners, 1):
        masks[corner : corner + 15, corner : corner + 20] = instance
    return masks


def assert_same(batched: Any, alone: Any) -> None:
    """But for rounding, in the unit of the network's answers."""
    for field in ("depth_relative", "depth_uncertainty", "flow", "flow_standard_deviation"):
        a, b = getattr(batched, field), getattr(alone, field)
        assert (a is None) == (b is None), field
        if a is not None:
            unit = max(alone.max_displacement) if field.startswith("flow") else 1
            np.testing.assert_allclose(a / unit, b / unit, rtol=0, atol=1e-5)
    assert (batched.amodal is None) == (alone.amodal is None)
    for a, b in zip(batched.amodal or (), alone.amodal or (), strict=True):
        assert (a.id, (a.mask != b.mask).sum()) == (b.id, 0)
        np.testing.assert_array_equal(a.visible_mask, b.visible_mask)


def test_requests_of_every_kind(pipe: PerceptionPipeline, clip: Clip) -> None:
    small = [frame[:40, :52] for frame in clip]
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((clip[0], clip[1], labels(clip[0].shape, 5, 30)), {"seed": 3}),
        ((clip[1],), {"tasks": ("depth",), "seed": 4}),
        ((small[0], small[1]), {"resize": "letterbox"}),
        ((clip[0], None, labels(clip[0].shape, 8)), {"tasks": ("amodal",), "ensemble_size": 2, "flip_members": True}),
        ((clip[2], clip[3]), {"sampler": "dpm_solver", "num_inference_steps": 3, "ensemble_size": 3, "seed": 3}),
        ((clip[2], clip[3]), {"sampler": "one_step_genpercept"}),
        ((clip[3], clip[4]), {"sampler": "one_step", "num_inference_steps": 1}),
    ]
    batched = pipe.batch([pipe.request(*images, **options) for images, options in calls])
    assert len(batched) == len(calls)
    for output, (images, options) in zip(batched, calls, strict=True):
        assert_same(output, pipe(*images, **options))


def test_batches_may_be_small(pipe: PerceptionPipeline, clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = [pipe(clip[i], clip[i + 1], ensemble_size=2, seed=i) for i in range(3)]
    monkeypatch.setattr(pipe, "max_batch_size", 4)
    requests = [pipe.request(clip[i], clip[i + 1], ensemble_size=2, seed=i) for i in range(3)]
    for output, expected in zip(pipe.batch(requests), alone, strict=True):
        assert_same(output, expected)


def test_what_two_requests_share_is_encoded_once(pipe: PerceptionPipeline, clip: Clip, encoded: list[int]) -> None:
    requests = [pipe.request(clip[i], clip[i + 1], tasks=("depth", "flow")) for i in range(4)]
    pipe.batch(requests)
    # Depth sees the four images resized in another way; its prompt is the same for all.
    assert sum(encoded) == len(clip) + 4 + 1


def test_a_batch_leaves_no_trace(pipe: PerceptionPipeline, clip: Clip) -> None:
    """Arrays without a name are told apart by where they are, which may be the same place for the next one."""
    for seed in range(3):
        frame = np.array(np.random.default_rng(seed).integers(0, 256, clip[0].shape), np.uint8)
        stream = PerceptionStream(pipe)
        assert_same(stream(frame, frame=None, tasks=("depth",)), pipe(frame, tasks=("depth",)))
        del frame


def test_a_stream_goes_on_from_batch_to_batch(pipe: PerceptionPipeline, clip: Clip, encoded: list[int]) -> None:
    stream = PerceptionStream(pipe)
    outputs = []
    for start in (0, 2):
        pairs = [(i, i + 1) for i in (start, start + 1)]
        outputs += stream.batch(
            [stream.request(clip[i], clip[j], frame=i, next_frame=j, tasks=("flow",), seed=9) for i, j in pairs]
        )
    assert sum(encoded) == stream.memory.encoded == len(clip)
    for i, output in enumerate(outputs):
        assert_same(output, pipe(clip[i], clip[i + 1], tasks=("flow",), seed=9))


def test_cameras_do_not_see_each_others_frames(pipe: PerceptionPipeline, clip: Clip) -> None:
    stream = PerceptionStream(pipe)
    views = {"front": clip, "left": [frame[::-1, :60] for frame in clip]}
    for i in range(3):
        requests = [
            stream.request(seen[i], seen[i + 1], frame=i, next_frame=i + 1, camera=camera)
            for camera, seen in views.items()
        ]
        for output, seen in zip(stream.batch(requests), views.values(), strict=True):
            assert_same(output, pipe(seen[i], seen[i + 1]))
    before = stream.memory.encoded
    stream.reset("left")
    for camera, new in (("front", 0), ("left", 1)):
        stream(views[camera][3], frame=3, camera=camera, tasks=("flow",), next_image=views[camera][2], next_frame=2)
        assert (stream.memory.encoded > before) == bool(new)


def test_a_changed_size_forgets_the_camera(pipe: PerceptionPipeline, clip: Clip) -> None:
    stream = PerceptionStream(pipe)
    stream(clip[0], frame=0)
    stream(clip[1][:30], frame=1)
    before = stream.memory.encoded
    stream(clip[0], frame=0)
    assert stream.memory.encoded > before


def test_one_unusable_frame_is_refused_before_the_others_are_computed(pipe: PerceptionPipeline, clip: Clip) -> None:
    with pytest.raises(InputError, match="next_image is"):
        pipe.request(clip[0], clip[1][:30])
    with pytest.raises(TypeError, match="ensemble"):
        pipe.request(clip[0], ensemble=3)


def test_nothing_to_answer(pipe: PerceptionPipeline) -> None:
    assert pipe.batch([]) == []
