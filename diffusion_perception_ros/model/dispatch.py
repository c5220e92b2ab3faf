"""How tokens get to their experts and back: several ways with one result, of which some device is fastest with each.

========  ==========================================================================================================
grouped   Rows sorted by expert, and PyTorch's grouped GEMM.
tiled     Rows sorted by expert, each expert's padded to whole tiles, and a batched GEMM over the tiles.
loop      One expert after another, as released. Asks the device which tokens each has: on a CPU that costs nothing.
dense     Every expert for every token: experts / k times the arithmetic, but nothing is moved.
========  ==========================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_perception_ros.model.gelu import gelu
from diffusion_perception_ros.model.linear import linear

GroupedLinear = Callable[[Tensor, Tensor, Tensor], Tensor]
DISPATCHES = ("grouped", "tiled", "loop", "dense")


class Experts(NamedTuple):
    """The weights of a layer's MLPs.

    Attributes:
        weight1: (experts, mlp_size, D).
        bias1: (experts, mlp_size).
        weight2: (experts, D, mlp_size).
        bias2: (experts, D).
    """

    weight1: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor


def choose_dispatch(tokens: Tensor, experts: Experts) -> str:
    """The way that ``benchmark/experts.py`` found fastest on this kind of device.

    On a CPU (AMD EPYC with AVX-512, one thread) the loop won in float32 for 192 tokens and more, 1.3 to 2.6 times as
    fast as grouped; for 64 and in bfloat16 the two differ by a quarter either way, and every expert for every token was
    faster only in bfloat16 with 4 experts and at most 192 tokens. On CUDA only what asks the device for nothing comes
    into question: grouped where PyTorch has a kernel for it (bfloat16 on Hopper and datacentre Blackwell), else tiled.
    A step of the released size took 26.8 ms with the one and 43.8 ms with the other (3,072 tokens, an H100).
    """
    if tokens.device.type == "cpu":
        return "loop"
    return "grouped" if _has_grouped_gemm(tokens, experts) else "tiled"


def dispatch(tokens: Tensor, weights: Tensor, chosen: Tensor, experts: Experts, how: str) -> Tensor:
    """Each token's weighted sum over the experts chosen for it.

    Args:
        tokens: (N, D).
        weights: (N, k) float32.
        chosen: (N, k) expert indices.
        experts: Their weights.
        how: One of `DISPATCHES`.

    Returns:
        (N, D), the same up to rounding whichever way.
    """
    if how == "loop":
        return _loop(tokens, weights, chosen, experts)
    if how == "dense":
        return _dense(tokens, weights, chosen, experts)
    return _sorted(tokens, weights, chosen, experts, grouped_linear if how == "grouped" else tiled_linear)


def _loop(tokens: Tensor, weights: Tensor, chosen: Tensor, experts: Experts) -> Tensor:
    mixed = torch.zeros_like(tokens)
    # Taken apart at once: gradients of one expert after another would each be as large as all.
    for i, (weight1, bias1, weight2, bias2) in enumerate(zip(*(stack.unbind() for stack in experts), strict=True)):
        token, rank = torch.where(chosen == i)
        hidden = gelu(linear(tokens[token], weight1, bias1))
        answers = linear(hidden, weight2, bias2) * weights[token, rank].to(tokens.dtype).unsqueeze(1)
        mixed.index_add_(0, token, answers)
    return mixed


def _dense(tokens: Tensor, weights: Tensor, chosen: Tensor, experts: Experts) -> Tensor:
    num_experts = len(experts.bias1)
    share = torch.zeros(len(tokens), num_experts, dtype=weights.dtype, device=weights.device)
    share = share.scatter(1, chosen, weights).to(tokens.dtype)
    hidden = gelu(linear(tokens, experts.weight1.flatten(0, 1), experts.bias1.flatten()))
    hidden = (hidden.unflatten(1, (num_experts, -1)) * share.unsqueeze(2)).flatten(1)
    return share @ experts.bias2 + linear(hidden, experts.weight2.transpose(0, 1).flatten(1))


def _sorted(tokens: Tensor, weights: Tensor, chosen: Tensor, experts: Experts, product: GroupedLinear) -> Tensor:
    num_chosen = chosen.shape[1]
    chosen = chosen.flatten()  # for each answer, of which a token gets num_chosen
    # int32, because the compiler leaves a scatter of longer ones to a slower kernel.
    index = torch.arange(max(len(chosen), len(experts.bias1)), device=tokens.device, dtype=torch.int32)
    answer = index[: len(chosen)]
    # A counting sort: an answer's row lies before the end of its expert's by how many the expert has given so far.
    is_by = chosen == index[: len(experts.bias1)].unsqueeze(1)
    given = is_by.cumsum(1)
    row_ends = given[:, -1].cumsum(0, dtype=torch.int32)
    row_of_answer = (is_by * (row_ends.unsqueeze(1) - given)).sum(0)
    answer_of_row = torch.empty_like(answer).scatter_(0, row_of_answer, answer)
    expert_of_row = chosen.index_select(0, answer_of_row)

    # Selected, not indexed: the gradient of an index into few rows sums one after another.
    rows = product(tokens.index_select(0, answer_of_row // num_chosen), experts.weight1, row_ends)
    rows = gelu(rows + experts.bias1.index_select(0, expert_of_row))
    rows = product(rows, experts.weight2, row_ends)

    # Back to token order by a gather: unlike a scatter-add it sums in a fixed order.
    answers = rows.index_select(0, row_of_answer) + experts.bias2.index_select(0, chosen)
    weights = weights.to(tokens.dtype).unsqueeze(-1)
    mixed: Tensor = (answers.unflatten(0, (-1, num_chosen)) * weights).sum(dim=1)
    return mixed


def grouped_linear(rows: Tensor, weight: Tensor, row_ends: Tensor) -> Tensor:
    """``rows[start_e:end_e] @ weight[e].T`` for each expert e, by PyTorch's grouped GEMM (2.10 and newer).

    Args:
        rows: (R, in) sorted by expert.
        weight: (experts, out, in).
        row_ends: (experts,) int32, one past the last row of each expert.

    Returns:
        (R, out).
    """
    device = rows.device.type
    if device != "meta" and torch.is_autocast_enabled(device):  # which does not know it
        dtype = torch.get_autocast_dtype(device)
        rows, weight = rows.to(dtype), weight.to(dtype)
    products: Tensor = F.grouped_mm(rows, weight.transpose(1, 2), offs=row_ends)
    return products


def _has_grouped_gemm(tokens: Tensor, experts: Experts) -> bool:
    """Whether PyTorch's grouped GEMM runs here without asking the device for the row counts."""
    device = tokens.device.type
    autocasts = device != "meta" and torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if autocasts else tokens.dtype
    alignment = 16 // dtype.itemsize
    if not hasattr(F, "grouped_mm") or any(size % alignment for size in experts.weight1.shape[1:]):
        return False
    if device != "cuda":
        return False
    major, _ = torch.cuda.get_device_capability(tokens.device)
    return dtype == torch.bfloat16 and major in (9, 10)


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
