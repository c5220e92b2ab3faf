"""The transformer's contract."""

from __future__ import annotations

import pytest
import torch
from conftest import SMALL

from diffusion_perception_ros.model.embeddings import sincos_position_embedding
from diffusion_perception_ros.model.random import random_transformer
from diffusion_perception_ros.model.transformer import DiTMoETransformer

LABELS = torch.tensor([1000, 1001, 1002, 1003, 1001])


@pytest.fixture(scope="module")
def transformer() -> DiTMoETransformer:
    return random_transformer(sample_size=8, **SMALL)


@torch.inference_mode()
def test_mixed_batch_equals_one_by_one(transformer: DiTMoETransformer) -> None:
    x = torch.randn(5, 12, 8, 8)
    t = torch.tensor([1, 250, 500, 750, 999])
    together = transformer(x, t, LABELS).sample
    assert together.shape == (5, 8, 8, 8)
    for i in range(5):
        torch.testing.assert_close(
            transformer(x[i : i + 1], t[i : i + 1], LABELS[i : i + 1]).sample[0], together[i], rtol=1e-4, atol=1e-5
        )


@torch.inference_mode()
@pytest.mark.parametrize("timestep", [torch.tensor(981), torch.tensor([981])])
def test_shared_timestep(transformer: DiTMoETransformer, timestep: torch.Tensor) -> None:
    x = torch.randn(5, 12, 8, 8)
    want = transformer(x, torch.full((5,), 981), LABELS).sample
    torch.testing.assert_close(transformer(x, timestep, LABELS).sample, want)


@torch.inference_mode()
def test_every_input_matters(transformer: DiTMoETransformer) -> None:
    x, t = torch.randn(1, 12, 8, 8), torch.tensor([500])
    outputs = [transformer(x, t, torch.tensor([label])).sample for label in (1000, 1001, 1002, 1003)]
    outputs.append(transformer(x, t + 1, torch.tensor([1000])).sample)
    for channel in (0, 4, 8):
        changed = x.clone()
        changed[:, channel] += 1
        outputs.append(transformer(changed, t, torch.tensor([1000])).sample)
    for i, a in enumerate(outputs):
        for b in outputs[:i]:
            assert (a - b).abs().max() > 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_step_asks_the_device(transformer: DiTMoETransformer, dtype: torch.dtype) -> None:
    """On the meta device there are no values, so that any host synchronisation raises."""
    meta = DiTMoETransformer(**dict(transformer.config)).to("meta", dtype)
    out = meta(
        torch.empty(3, 12, 8, 8, device="meta", dtype=dtype),
        torch.empty(3, device="meta"),
        torch.empty(3, dtype=torch.long, device="meta"),
    )
    assert out.sample.shape == (3, 8, 8, 8)


@torch.inference_mode()
def test_bfloat16_is_close(transformer: DiTMoETransformer) -> None:
    x, t = torch.randn(5, 12, 8, 8), torch.tensor([998])
    want = transformer(x, t, LABELS).sample
    half = random_transformer(sample_size=8, **SMALL).to(torch.bfloat16)
    got = half(x.to(torch.bfloat16), t, LABELS).sample
    assert got.dtype == torch.bfloat16
    # Not elementwise: a token at a near-tie may be routed to another expert.
    assert (got - want).abs().median() < 0.02 * want.abs().max()


@torch.inference_mode()
def test_timesteps_differ_in_bfloat16() -> None:
    half = random_transformer(sample_size=8, **SMALL).to(torch.bfloat16)
    embedded = half.t_embedder(torch.tensor([998, 999]))
    assert (embedded[0] != embedded[1]).any()


@torch.inference_mode()
@pytest.mark.parametrize("stem", [{}, {"stem_channels": 8, "stem_levels": 2, "correlation_radius": 1}])
def test_modulations_of_a_whole_schedule(stem: dict[str, int]) -> None:
    transformer = random_transformer(sample_size=8, **{**SMALL, **stem})
    x, timesteps = torch.randn(5, 12, 8, 8), torch.tensor([999, 500, 1])
    schedule = transformer.modulations(timesteps[:, None], LABELS)
    outputs = [transformer(x, t, LABELS, schedule.step(i)).sample for i, t in enumerate(timesteps)]
    for t, out in zip(timesteps, outputs, strict=True):
        torch.testing.assert_close(out, transformer(x, t, LABELS).sample)
    assert (outputs[0] - outputs[2]).abs().max() > 1e-3


def test_latents_of_another_size_are_refused(transformer: DiTMoETransformer) -> None:
    with pytest.raises(ValueError, match="takes 8x8"):
        transformer(torch.zeros(1, 12, 9, 9), torch.tensor([1]), torch.tensor([1000]))


def test_position_embedding_is_separable() -> None:
    """The first half of the channels tells the column, the second the row."""
    grid = sincos_position_embedding(16, 5).view(5, 5, 16)
    assert torch.equal(grid[0, :, :8], grid[4, :, :8])
    assert torch.equal(grid[:, 0, 8:], grid[:, 3, 8:])
    torch.testing.assert_close(grid[2, 3, 0], torch.tensor(3.0).sin())
    torch.testing.assert_close(grid[2, 3, 8], torch.tensor(2.0).sin())


def test_dense_variant_has_no_router() -> None:
    dense = random_transformer(sample_size=8, **{**SMALL, "num_experts": 0}, patch_labels=None)
    assert not any("gate" in name for name in dense.state_dict())
    assert dense.x_embedder.weight.shape[0] == 1
    out = dense(torch.randn(2, 12, 8, 8), torch.tensor([5]), torch.tensor([1000, 1001])).sample
    assert out.isfinite().all()
