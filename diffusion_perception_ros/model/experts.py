"""Mixture of experts: a softmax router and expert MLPs whose weights are stacked per layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_perception_ros.model.dispatch import Experts, choose_dispatch, dispatch

# On CUDA, of half precision; PyTorch 2.8 and newer.
_HAS_FLOAT32_PRODUCT = "dtype" in torch.ops.aten.mm.overloads()


class Router(nn.Module):
    """Chooses ``num_experts_per_tok`` experts for each token.

    Softmax over all experts, then top-k; the kept weights are not renormalised (DiT-MoE, arXiv 2407.11633,
    as the released generalist uses it). Computed in float32 whatever the dtype of the weights, because a
    rounded score sends a token to another expert.
    """

    def __init__(self, hidden_size: int, num_experts: int, num_experts_per_tok: int) -> None:
        super().__init__()
        self.num_experts_per_tok = num_experts_per_tok
        self.weight = nn.Parameter(torch.empty(num_experts, hidden_size))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def scores(self, tokens: Tensor) -> Tensor:
        """(N, D) tokens to (N, experts) float32, each row of sum 1."""
        if _autocasts(tokens.device):
            with torch.autocast(tokens.device.type, enabled=False):
                return self.scores(tokens)
        is_half = tokens.dtype == self.weight.dtype != torch.float32
        if is_half and tokens.is_cuda and _HAS_FLOAT32_PRODUCT and not torch.is_grad_enabled():
            # The products of halves are exact in float32, in which they are summed: nothing has to be converted.
            return torch.mm(tokens, self.weight.t(), out_dtype=torch.float32).softmax(dim=-1)
        return F.linear(tokens.float(), self.weight.float()).softmax(dim=-1)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Route (N, D) tokens; returns (N, k) float32 weights and (N, k) expert indices."""
        scores = self.scores(tokens)
        if not torch.compiler.is_compiling():
            weights, experts = scores.topk(self.num_experts_per_tok, dim=-1, sorted=False)
            return weights, experts
        # Maxima become part of the softmax's kernel, which topk does not.
        index = torch.arange(scores.shape[1], device=scores.device)
        best = []
        for _ in range(self.num_experts_per_tok):
            best.append(scores.max(dim=-1, keepdim=True))
            scores = scores.masked_fill(index == best[-1].indices, -1)
        return torch.cat([each.values for each in best], -1), torch.cat([each.indices for each in best], -1)


class ExpertLinear(nn.Module):
    """One linear layer per expert, as a single (experts, out, in) weight."""

    def __init__(self, num_experts: int, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_experts, out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(num_experts, out_features))
        for i in range(num_experts):
            nn.init.xavier_uniform_(self.weight[i])


class MixtureOfExperts(nn.Module):
    """Routed MLPs: fc1, GELU (tanh), fc2, both with bias.

    Attributes:
        dispatch: One of `DISPATCHES`; None for the one that was fastest where this runs, see `choose_dispatch`.
    """

    dispatch: str | None = None

    def __init__(self, hidden_size: int, mlp_size: int, num_experts: int, num_experts_per_tok: int) -> None:
        super().__init__()
        self.gate = Router(hidden_size, num_experts, num_experts_per_tok)
        self.fc1 = ExpertLinear(num_experts, hidden_size, mlp_size)
        self.fc2 = ExpertLinear(num_experts, mlp_size, hidden_size)

    @property
    def experts(self) -> Experts:
        """Their weights."""
        return Experts(self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        tokens = x.flatten(0, 1)
        weights, chosen = self.gate(tokens)
        experts = self.experts
        mixed = dispatch(tokens, weights, chosen, experts, self.dispatch or choose_dispatch(tokens, experts))
        return mixed.view_as(x)


def _autocasts(device: torch.device) -> bool:
    """Whether automatic mixed precision is on, which what is only measured has not."""
    return device.type != "meta" and torch.is_autocast_enabled(device.type)
