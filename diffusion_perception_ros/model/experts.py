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
        if _autocasts(tokens.device):
            with torch.autocast(tokens.device.type, enabled=False):
                return self.scores(tokens)
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
    """``rows[start_e:end_e] @ weight[e].T`` for each expert e, without bringing the row counts to the host.

    Args:
        rows: (R, in) sorted by expert.
        weight: (experts, out, in).
        row_ends: (experts,) int32, one past the last row of each expert.

    Returns:
        (R, out).
    """
    if _autocasts(rows.device):  # which does not know grouped GEMMs
        dtype = torch.get_autocast_dtype(rows.device.type)
        rows, weight = rows.to(dtype), weight.to(dtype)
    if _has_grouped_gemm(rows, weight):
        return F.grouped_mm(rows, weight.transpose(1, 2), offs=row_ends)
    return tiled_linear(rows, weight, row_ends)


def _has_grouped_gemm(rows: Tensor, weight: Tensor) -> bool:
    """Whether torch's grouped GEMM (2.10 and newer) runs here without asking the device for the row counts."""
    alignment = 16 // rows.element_size()
    if not hasattr(F, "grouped_mm") or rows.shape[1] % alignment or weight.shape[1] % alignment:
        return False
    if rows.is_cuda:
        major, _ = torch.cuda.get_device_capability(rows.device)
        return rows.dtype == torch.bfloat16 and major in (9, 10)
    return rows.device.type == "cpu"


def tiled_linear(rows: Tensor, weight: Tensor, row_ends: Tensor, tile: int = 512) -> Tensor:
    """``grouped_linear`` as one batched GEMM over tiles of rows, each of a single expert.

    Every expert's rows are padded to whole tiles. Their number is bounded by shapes alone, so that nothing has to
    be known on the host; the price is the padding and a copy of each tile's weight.
    """
    row_starts = F.pad(row_ends[:-1], (1, 0))
    tile_ends = ((row_ends - row_starts + tile - 1) // tile).cumsum(0)
    tile_starts = F.pad(tile_ends[:-1], (1, 0))
    num_tiles = len(rows) // tile + len(weight)
    index = torch.arange(max(len(rows), num_tiles), device=rows.device)
    expert_of_tile = torch.searchsorted(tile_ends, index[:num_tiles], right=True).clamp(max=len(weight) - 1)
    expert_of_row = torch.searchsorted(row_ends, index[: len(rows)].int(), right=True)
    place = tile_starts[expert_of_row] * tile + index[: len(rows)] - row_starts[expert_of_row]
    padded = rows.new_zeros(num_tiles * tile, rows.shape[1]).index_copy(0, place, rows)
    products = torch.bmm(padded.unflatten(0, (num_tiles, tile)), weight[expert_of_tile].transpose(1, 2))
    return products.flatten(0, 1)[place]


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


def _autocasts(device: torch.device) -> bool:
    """Whether automatic mixed precision is on; some devices have none."""
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
