"""The mixture of experts against a slow one that asks each token in turn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from diffusion_perception_ros.model.dispatch import DISPATCHES, grouped_linear, tiled_linear
from diffusion_perception_ros.model.experts import ExpertLinear, MixtureOfExperts

HAS_GROUPED = hasattr(F, "grouped_mm")  # PyTorch 2.10 and newer
WAYS = [how for how in DISPATCHES if how != "grouped" or HAS_GROUPED]


def slow_mixture(moe: MixtureOfExperts, token: torch.Tensor) -> torch.Tensor:
    scores = (moe.gate.weight @ token).softmax(0)
    out = torch.zeros_like(token)
    for expert in scores.argsort(descending=True)[: moe.gate.num_experts_per_tok]:
        hidden = F.gelu(moe.fc1.weight[expert] @ token + moe.fc1.bias[expert], approximate="tanh")
        out += scores[expert] * (moe.fc2.weight[expert] @ hidden + moe.fc2.bias[expert])
    return out


@pytest.mark.parametrize("how", [None, *WAYS])
@pytest.mark.parametrize(("num_experts", "top_k"), [(4, 2), (6, 3), (8, 1), (2, 2)])
def test_mixture_matches_token_by_token(num_experts: int, top_k: int, how: str | None) -> None:
    torch.manual_seed(0)
    moe = MixtureOfExperts(20, 48, num_experts, top_k)
    moe.dispatch = how
    for layer in (moe.fc1, moe.fc2):
        torch.nn.init.normal_(layer.bias)
    x = torch.randn(3, 7, 20)
    with torch.no_grad():
        want = torch.stack([slow_mixture(moe, token) for token in x.flatten(0, 1)]).view_as(x)
        torch.testing.assert_close(moe(x), want, rtol=1e-5, atol=1e-5)


def test_compiled_it_is_the_same_mixture() -> None:
    """Which then chooses experts and computes GELU in another way."""
    torch.manual_seed(0)
    moe = MixtureOfExperts(16, 48, 6, 3).requires_grad_(False)
    moe.dispatch = "tiled"
    x = torch.randn(2, 9, 16)
    want = torch.stack([slow_mixture(moe, token) for token in x.flatten(0, 1)]).view_as(x)
    got = torch.compile(moe, backend="eager", fullgraph=True)(x)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_weights_are_not_renormalised() -> None:
    """Doubling every expert's share would show if the top-k weights were made to sum to one."""
    moe = MixtureOfExperts(8, 16, 4, 2)
    weights, _ = moe.gate(torch.zeros(5, 8))
    torch.testing.assert_close(weights, torch.full((5, 2), 0.25))


def test_router_scores_are_float32_in_half_precision() -> None:
    moe = MixtureOfExperts(8, 16, 4, 2).to(torch.bfloat16)
    weights, _ = moe.gate(torch.randn(5, 8, dtype=torch.bfloat16))
    assert weights.dtype == torch.float32


@pytest.mark.skipif(not HAS_GROUPED, reason="this PyTorch has no grouped GEMM")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_grouped_linear_with_empty_groups(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 12, 16).to(dtype)
    rows = torch.randn(9, 16).to(dtype)
    ends = torch.tensor([0, 5, 5, 9], dtype=torch.int32)
    want = torch.cat([rows[:5] @ weight[1].T, rows[5:] @ weight[3].T])
    torch.testing.assert_close(grouped_linear(rows, weight, ends), want, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("ends", [[0, 5, 5, 9], [9, 9, 9, 9], [0, 0, 0, 9], [2, 4, 8, 9], [4, 8, 8, 9]])
@pytest.mark.parametrize("tile", [1, 2, 4, 16])
def test_tiles_of_every_size(ends: list[int], tile: int) -> None:
    torch.manual_seed(0)
    weight, rows = torch.randn(4, 6, 5), torch.randn(9, 5)
    starts = [0, *ends[:-1]]
    want = torch.cat([rows[a:b] @ w.T for a, b, w in zip(starts, ends, weight, strict=True)])
    got = tiled_linear(rows, weight, torch.tensor(ends, dtype=torch.int32), tile)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("how", WAYS)
def test_experts_without_tokens(how: str) -> None:
    torch.manual_seed(0)
    moe = MixtureOfExperts(16, 32, 4, 1).requires_grad_(False)
    moe.dispatch = how
    moe.gate.weight.zero_()[2] = 1  # to whom all go whose sum is positive; the others to expert 0
    x = torch.randn(1, 6, 16).abs()
    want = torch.stack([slow_mixture(moe, token) for token in x[0]])
    torch.testing.assert_close(moe(x)[0], want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("how", WAYS)
def test_automatic_mixed_precision(how: str) -> None:
    """As training uses it: gradients in float32, close to those without it."""
    gradients = []
    for enabled in (False, True):
        torch.manual_seed(0)
        moe = MixtureOfExperts(16, 32, 4, 4)
        moe.dispatch = how
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = moe(torch.randn(1, 8, 16))
        out.square().sum().backward()
        assert moe.fc2.weight.grad is not None
        gradients.append(moe.fc2.weight.grad)
    assert (gradients[0] - gradients[1]).norm() < 0.02 * gradients[0].norm()


@pytest.mark.parametrize("how", WAYS)
def test_gradients_reach_every_weight_that_was_used(how: str) -> None:
    moe = MixtureOfExperts(16, 32, 4, 4)
    moe.dispatch = how
    moe(torch.randn(2, 8, 16)).square().sum().backward()
    for layer in (moe.fc1, moe.fc2):
        assert isinstance(layer, ExpertLinear)
        assert layer.weight.grad is not None
        assert (layer.weight.grad.flatten(1).norm(dim=1) > 0).all()
    assert moe.gate.weight.grad is not None
    assert moe.gate.weight.grad.norm() > 0
