"""Frames that follow each other, each encoded once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.stream import PerceptionStream
from diffusion_perception_ros.tasks import Picture, find_task

SIZE = (60, 80)


@pytest.fixture(scope="module")
def clip() -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    return list(np.random.default_rng(0).integers(0, 256, (6, *SIZE, 3)).astype(np.uint8))


@pytest.fixture(scope="module")
def labels() -> np.ndarray[Any, np.dtype[np.uint8]]:
    labels = np.zeros(SIZE, np.uint8)
    labels[10:30, 20:40], labels[40:50, 5:30] = 1, 2
    return labels


def assert_same(stream: Any, pipe: Any) -> None:
    np.testing.assert_allclose(stream.depth_relative, pipe.depth_relative, atol=1e-5)
    np.testing.assert_allclose(stream.flow, pipe.flow, atol=1e-3)
    for a, b in zip(stream.amodal, pipe.amodal, strict=True):
        assert np.array_equal(a.mask, b.mask)


@pytest.mark.parametrize("options", [{}, {"resize": "letterbox"}, {"ensemble_size": 3, "flip_members": True}])
def test_a_stream_sees_what_the_pipeline_sees(
    pipe: PerceptionPipeline, clip: Any, labels: Any, options: dict[str, Any]
) -> None:
    stream = PerceptionStream(pipe)
    for i in range(len(clip) - 1):
        seen = stream(clip[i], clip[i + 1], labels, frame=i, next_frame=i + 1, **options)
        assert_same(seen, pipe(clip[i], clip[i + 1], labels, **options))


def test_each_frame_is_encoded_once(pipe: PerceptionPipeline, clip: Any) -> None:
    encoded: list[int] = []
    encode = pipe.codec.encode

    def counted(images: Tensor) -> Tensor:
        encoded.append(len(images))
        return encode(images)

    pipe.codec.encode = counted  # type: ignore[method-assign]
    try:
        stream = PerceptionStream(pipe)
        for i in range(len(clip) - 1):
            stream(clip[i], clip[i + 1], frame=i, next_frame=i + 1, tasks=("flow",))
        # Of this encoding image and prompt are resized differently: all but the first and the last frame are both.
        variants = len({picture.interpolation for picture in flow_pictures(pipe)})
        assert sum(encoded) == stream.memory.encoded == len(clip) + (variants - 1) * (len(clip) - 2)
        before = sum(encoded)
        stream(clip[5], frame=5, tasks=("depth",))
        stream(clip[5], frame=5, tasks=("depth",))
        assert sum(encoded) <= before + 2
    finally:
        del pipe.codec.encode


def flow_pictures(pipe: PerceptionPipeline) -> list[Picture]:
    encoding = pipe.metadata.tasks["flow"]
    return [Picture("image", encoding.image_interpolation), *find_task("flow").prompts(encoding, ())]


def test_masks_and_other_sizes_are_never_taken_from_before(pipe: PerceptionPipeline, clip: Any, labels: Any) -> None:
    stream = PerceptionStream(pipe)
    stream(clip[0], clip[1], labels, frame=0, next_frame=1)
    other = np.roll(labels, 9, axis=1)
    assert_same(stream(clip[0], clip[1], other, frame=0, next_frame=1), pipe(clip[0], clip[1], other))
    small = [np.ascontiguousarray(frame[:40, :50]) for frame in clip[:2]]
    seen: Any = stream(*small, frame=0, next_frame=1)
    np.testing.assert_allclose(seen.depth_relative, pipe(*small).depth_relative, atol=1e-5)  # type: ignore[arg-type]


def test_few_frames_are_kept_and_none_after_a_reset(pipe: PerceptionPipeline, clip: Any) -> None:
    stream = PerceptionStream(pipe)
    for i in range(5):
        stream(clip[i], clip[i + 1], frame=i, next_frame=i + 1)
    assert list(stream.memory._cameras[None]) == [3, 4, 5]
    stream.reset()
    before = stream.memory.encoded
    stream(clip[5], frame=5, tasks=("depth",))
    assert stream.memory.encoded == before + 1  # but not what asks for every pixel


def test_what_timesteps_and_labels_make_is_computed_once(
    pipe: PerceptionPipeline, clip: Any, labels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[list[int]] = []
    modulations = pipe.transformer.modulations

    def counted(timestep: torch.Tensor, class_labels: torch.Tensor) -> Any:
        computed.append(class_labels.tolist())
        return modulations(timestep, class_labels)

    monkeypatch.setattr(pipe.transformer, "modulations", counted)
    stream = PerceptionStream(pipe)
    for i in range(3):
        seen: Any = stream(clip[i], clip[i + 1], frame=i, next_frame=i + 1, tasks=("depth", "flow"))
    assert computed == [[1000, 1002, 1003]]
    alone: Any = pipe(clip[2], clip[3], tasks=("depth", "flow"))
    np.testing.assert_allclose(seen.flow, alone.flow, atol=1e-3)
    stream(clip[3], clip[4], labels, frame=3, next_frame=4)
    stream(clip[4], clip[5], frame=4, next_frame=5, tasks=("depth", "flow"), num_inference_steps=2)
    stream(clip[4], clip[5], frame=4, next_frame=5, tasks=("depth", "flow"), sampler="ddim")
    assert len(computed) == 5  # one of them the pipeline's, which remembers nothing


def test_a_refused_frame_changes_nothing(pipe: PerceptionPipeline, clip: Any) -> None:
    stream = PerceptionStream(pipe)
    with pytest.raises(InputError):
        stream(clip[0].astype(np.float32), frame=0)
    assert stream.memory.encoded == 0
    assert torch.is_tensor(pipe.transformer.pos_embed)
