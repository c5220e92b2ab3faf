"""Mixture of experts: a softmax router and expert MLPs whose weights are stacked per layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
        with torch.autocast(tokens.device.type, enabled=False):
            return F.linear(tokens.float(), self.weight.float()).softmax(dim=-1)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Route (N, D) tokens; returns (N, k) float32 weights and (N, k) expert indices."""
        weights, experts = self.scores(tokens).topk(self.num_experts_per_tok, dim=-1, sorted=False)
        return weights, experts


class ExpertLinear(nn.Module):
    """One linear layer per expert, as a single (experts, out, in) weight."""

    def __init__(self, num_experts: int, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_experts, out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(num_experts, out_features))
        for i in range(num_experts):
            nn.init.xavier_uniform_(self.weight[i])

    def forward(self, rows: Tensor, expert_of_row: Tensor, row_ends: Tensor) -> Tensor:
        """Apply to (R, in) rows sorted by expert.

        Args:
            rows: (R, in) tokens, those of expert 0 first.
            expert_of_row: (R,) ascending expert indices.
            row_ends: (experts,) int32, one past the last row of each expert.

        Returns:
            (R, out).
        """
        return grouped_linear(rows, self.weight, row_ends) + self.bias[expert_of_row]


def grouped_linear(rows: Tensor, weight: Tensor, row_ends: Tensor) -> Tensor:
    """``rows[start_e:end_e] @ weight[e].T`` for each expert e.

    The row counts stay on the device wherever torch has a grouped GEMM for it.

    Args:
        rows: (R, in) sorted by expert.
        weight: (experts, out, in).
        row_ends: (experts,) int32.

    Returns:
        (R, out).
    """
    if torch.is_autocast_enabled(rows.device.type):  # which does not know grouped GEMMs
        dtype = torch.get_autocast_dtype(rows.device.type)
        rows, weight = rows.to(dtype), weight.to(dtype)
    # torch's grouped GEMM (2.10 and newer) wants rows and weight columns of whole 16-byte words.
    alignment = 16 // rows.element_size()
    if hasattr(F, "grouped_mm") and rows.shape[1] % alignment == 0 and weight.shape[1] % alignment == 0:
        return F.grouped_mm(rows, weight.transpose(1, 2), offs=row_ends)
    counts = row_ends.diff(prepend=row_ends.new_zeros(1)).tolist()
    groups = rows.split(counts)
    return torch.cat([F.linear(group, w) for group, w in zip(groups, weight, strict=True)])


class MixtureOfExperts(nn.Module):
    """Routed MLPs: fc1, GELU (tanh), fc2, both with bias."""

    def __init__(self, hidden_size: int, mlp_size: int, num_experts: int, num_experts_per_tok: int) -> None:
        super().__init__()
        self.gate = Router(hidden_size, num_experts, num_experts_per_tok)
        self.fc1 = ExpertLinear(num_experts, hidden_size, mlp_size)
        self.fc2 = ExpertLinear(num_experts, mlp_size, hidden_size)
        # Not persistent: a constant that must live on the device, so that no step copies it there.
        self.register_buffer("expert_index", torch.arange(num_experts), persistent=False)
        self.expert_index: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        tokens = x.flatten(0, 1)
        weights, experts = self.gate(tokens)
        num_chosen = experts.shape[1]

        order = experts.flatten().argsort(stable=True)
        expert_of_row = experts.flatten()[order]
        row_ends = torch.searchsorted(expert_of_row, self.expert_index, right=True, out_int32=True)

        rows = tokens[order // num_chosen]
        rows = F.gelu(self.fc1(rows, expert_of_row, row_ends), approximate="tanh")
        rows = self.fc2(rows, expert_of_row, row_ends)

        # Back to token order by a gather: unlike a scatter-add it sums in a fixed order.
        chosen = rows[order.argsort()].unflatten(0, (-1, num_chosen))
        mixed: Tensor = (chosen * weights.to(x.dtype).unsqueeze(-1)).sum(dim=1)
        return mixed.view_as(x)
