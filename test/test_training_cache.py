"""Pairs on disk and the batches made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import render_cache, seeing_normals, tiny

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.scenes import EVALUATION_SEED, render_pairs
from diffusion_perception_ros.training.batches import Batches, Questions
from diffusion_perception_ros.training.cache import (
    VALIDATION_SEED,
    PairCache,
    pair_type,
    render_records,
    unpack_masks,
    write_shard,
)
from diffusion_perception_ros.training.config import TrainingConfig
from diffusion_perception_ros.training.resident import ResidentPairs
from diffusion_perception_ros.training.sources_scenes import SceneSource

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_cache(tmp_path_factory.mktemp("pairs"))


@pytest.fixture
def cache(rendered: Path) -> PairCache:
    return PairCache(rendered, resolution=32, shard_size=8, first_seed=0, workers=0)


def test_records_hold_what_the_scenes_are() -> None:
    pairs = render_pairs([3, 4], 32, 32)
    records = render_records([3, 4], 32)
    assert (records["image"] == pairs.image.numpy()).all()
    assert (records["next_image"] == pairs.next_image.numpy()).all()
    np.testing.assert_allclose(records["depth"].astype(np.float32), pairs.depth.numpy(), rtol=1e-3)
    np.testing.assert_allclose(records["flow"].astype(np.float32), pairs.flow.numpy(), rtol=1e-3, atol=1e-4)
    for name, mask in unpack_masks(records["masks"]).items():
        assert (mask == getattr(pairs, name).numpy()).all()


def test_normals_are_kept_only_where_they_are_wanted(tmp_path: Path) -> None:
    """Pairs with normals are in files of their own, and the others are as they were without."""
    plain, rich = render_records([3, 4], 32), render_records([3, 4], 32, normals=True)
    assert [(name, plain.dtype[name].base.name, plain.dtype[name].shape) for name in plain.dtype.names or ()] == [
        ("image", "uint8", (32, 32, 3)),
        ("next_image", "uint8", (32, 32, 3)),
        ("depth", "float16", (32, 32)),
        ("flow", "float16", (32, 32, 2)),
        ("masks", "uint8", (32, 32)),
    ]
    np.testing.assert_allclose(rich["normals"], render_pairs([3, 4], 32, 32).normals, atol=1e-3)
    assert all((rich[name] == plain[name]).all() for name in plain.dtype.names or ())
    caches = [PairCache(tmp_path, 16, shard_size=2, first_seed=7, workers=0, normals=n) for n in (False, True)]
    for cache in caches:
        write_shard(cache.path(0), cache.seeds(0), 16, cache.normals)
    assert [cache.path(0).name for cache in caches] == ["pairs_16_7_2.npy", "pairs_normals_16_7_2.npy"]
    for normals in (False, True):
        cache = PairCache(tmp_path, 16, shard_size=2, first_seed=7, workers=0, normals=normals)
        assert cache.read(np.array([1, 0])).dtype == pair_type(16, normals)


def test_pairs_are_found_by_their_number(cache: PairCache) -> None:
    records = cache.read(np.array([9, 2, 9]))
    assert (records == render_records([9, 2, 9], 32)).all()


def test_resident_pairs_are_those_of_the_cache(cache: PairCache) -> None:
    """Also where a shard has taken the place of another, and when the first comes back."""
    alone, both = (ResidentPairs(cache, room, CPU) for room in (1, 2))
    for resident, numbers in ((alone, [1, 7]), (alone, [15, 9, 15]), (alone, [1, 0]), (both, [9, 2, 9]), (both, [3])):
        records, fields = cache.read(np.array(numbers)), resident.read(np.array(numbers))
        assert set(fields) == set(records.dtype.names or ())
        assert all(np.array_equal(fields[name].numpy(), records[name]) for name in fields)


def test_missing_pairs_are_rendered_by_a_process(tmp_path: Path) -> None:
    cache = PairCache(tmp_path, resolution=16, shard_size=2, first_seed=50, workers=1)
    try:
        records = cache.read(np.array([5, 0]))
    finally:
        cache.close()
    assert (records == render_records([55, 50], 16)).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs_16_50_2.npy", "pairs_16_54_2.npy"]


def test_a_shard_that_nobody_wants_leaves_nothing_behind(tmp_path: Path) -> None:
    write_shard(tmp_path / "pairs.npy", range(20), 16, wanted=lambda: False)
    assert not list(tmp_path.iterdir())


def test_forgotten_pairs_are_gone(tmp_path: Path) -> None:
    cache = PairCache(tmp_path, resolution=16, shard_size=2, first_seed=0, workers=0)
    write_shard(cache.path(0), cache.seeds(0), 16)
    cache.read(np.array([1]))
    cache.forget(0)
    cache.forget(7)
    assert not list(tmp_path.iterdir())


def test_pairs_of_other_scenes_are_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "pairs_16_0_2.npy", range(100, 102), 16)
    with pytest.raises(InputError, match="another version of the scenes"):
        PairCache(tmp_path, resolution=16, shard_size=2, first_seed=0, workers=0)


def same(a: list[Questions], b: list[Questions]) -> bool:
    return all(
        torch.equal(x.image, y.image) and torch.equal(x.target.images, y.target.images)
        for x, y in zip(a, b, strict=True)
    )


def batches_of(config: TrainingConfig, cache: PairCache, process: int = 0) -> Batches:
    return Batches(config, [SceneSource(config, cache, CPU)], process)


def test_a_step_has_one_batch(cache: PairCache) -> None:
    batches = batches_of(tiny(), cache)
    assert same(batches.make(5, 0), batches_of(tiny(), cache).make(5, 0))
    assert not same(batches.make(5, 0), batches.make(6, 0))
    assert not same(batches.make(5, 0), batches.make(5, 1))
    assert not same(batches.make(5, 0), batches_of(tiny(), cache, process=1).make(5, 0))
    assert not same(batches.make(5, 0), batches_of(tiny(seed=9), cache).make(5, 0))


def test_stream_is_every_part_of_every_step(cache: PairCache) -> None:
    config = tiny(steps=4)
    config = replace(config, optimizer=replace(config.optimizer, accumulation=2))
    batches = batches_of(config, cache)
    made = list(batches.stream(2))
    assert [(step, part) for step, part, _ in made] == [(2, 0), (2, 1), (3, 0), (3, 1)]
    for step, part, questions in made:
        assert same(questions, batches.make(step, part))
    assert not list(batches.stream(4))


def test_questions_are_asked_as_the_pipeline_asks(cache: PairCache) -> None:
    plain = tiny()
    plain = replace(plain, data=replace(plain.data, flip=0.0, photometric=0.0))
    depth, amodal, flow = batches_of(plain, cache).make(0, 0)
    assert [questions.task for questions in (depth, amodal, flow)] == ["depth", "amodal", "flow"]
    assert (depth.prompt == 1).all()
    assert set(amodal.prompt.unique().tolist()) <= {-1.0, 1.0}
    visible = amodal.prompt[:, 0] > 0
    assert torch.equal(visible, amodal.truth.visible)
    assert (amodal.target.images[:, 0, 0][visible] == 1).all()
    images = (flow.image.permute(0, 2, 3, 1) + 1) * 127.5
    records = cache.read(np.arange(16))
    for image, prompt in zip(images, flow.prompt, strict=True):
        (found,) = [i for i in range(16) if np.abs(records["image"][i] - image.numpy()).max() < 0.01]
        torch.testing.assert_close(
            (prompt.permute(1, 2, 0) + 1) * 127.5, torch.from_numpy(records["next_image"][found]).float()
        )


def test_normals_are_asked_with_the_image_alone(tmp_path: Path) -> None:
    config = seeing_normals(tiny())
    cache = PairCache(render_cache(tmp_path, normals=True), 32, shard_size=8, first_seed=0, workers=0, normals=True)
    *others, normals = batches_of(config, cache).make(0, 0)
    assert [questions.task for questions in others] == ["depth", "amodal", "flow"]
    assert normals.task == "normals"
    assert (normals.prompt == 1).all()
    assert normals.target.images.shape == (2, 1, 3, 32, 32)
    assert normals.target.valid.all()  # also the sky, where there is no surface
    lengths = normals.target.images.norm(dim=2)
    assert ((lengths - 1).abs().lt(1e-2) | (lengths == 0)).all()


def test_the_window_moves(cache: PairCache) -> None:
    config = tiny(steps=100)
    assert SceneSource(config, cache, CPU).window(99) == (0, 2)
    config = replace(config, data=replace(config.data, refresh_steps=10))
    assert SceneSource(config, cache, CPU).window(9) == (0, 2)
    assert SceneSource(config, cache, CPU).window(35) == (3, 5)


def test_held_out_scenes_are_never_trained_on(cache: PairCache) -> None:
    assert VALIDATION_SEED < EVALUATION_SEED
    config = tiny()
    config = replace(config, data=replace(config.data, first_seed=VALIDATION_SEED - 20))
    with pytest.raises(InputError, match="held out"):
        SceneSource(config, cache, CPU)
