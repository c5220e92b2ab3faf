"""How tokens should get to their experts: the time of each way, as a ratio to that of the loop over experts.

What `choose_dispatch` says about devices is read off this. The ways take turns, so that a busy machine slows all; the
best of each counts. On a CPU that is the processor's time of a single thread, on CUDA the device's. The last column is
a linear layer of one expert: the time of PyTorch's own / the time of `model.linear`'s.

    python benchmark/experts.py --device cpu
    python benchmark/experts.py --device cuda --sizes 192:384:4 1152:4608:8 --tokens 64 192 1024 3072
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_perception_ros.model.dispatch import DISPATCHES, Experts, choose_dispatch, dispatch
from diffusion_perception_ros.model.experts import MixtureOfExperts
from diffusion_perception_ros.model.linear import linear

_HAS_GROUPED = hasattr(F, "grouped_mm")  # PyTorch 2.10 and newer
# Of the embedded checkpoint, of one between, and of the released generalist: width, expert width, experts.
_SIZES = ("192:384:4", "384:1536:8", "1152:4608:8")


def seconds(ways: dict[str, Callable[[], object]], device: torch.device, rounds: int) -> dict[str, float]:
    """The least time of each way over some rounds in turn; the first round warms up."""
    best = dict.fromkeys(ways, float("inf"))
    for i in range(rounds + 1):
        for name, way in ways.items():
            if device.type == "cuda":
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record()
                way()
                end.record()
                end.synchronize()
                taken = start.elapsed_time(end) / 1e3
            else:
                began = time.thread_time()
                way()
                taken = time.thread_time() - began
            if i:
                best[name] = min(best[name], taken)
    return best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", nargs="+", default=_SIZES, help="width:expert width:experts")
    parser.add_argument("--tokens", nargs="+", type=int, default=(64, 192, 1024, 3072))
    parser.add_argument("--dtypes", nargs="+", default=("float32", "bfloat16"))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    device = torch.device(args.device)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(
        "dtype     width mlp  experts tokens | loop ms | time of the loop / time of", *DISPATCHES, "| chosen | linear"
    )
    for dtype_name in args.dtypes:
        for size in args.sizes:
            width, mlp_size, num_experts = map(int, size.split(":"))
            moe = MixtureOfExperts(width, mlp_size, num_experts, 2).to(device, getattr(torch, dtype_name))
            moe.requires_grad_(False)
            for num_tokens in args.tokens:
                tokens = torch.randn(num_tokens, width).to(device, getattr(torch, dtype_name))
                print(f"{dtype_name:9} {width:5} {mlp_size:4} {num_experts:7} {num_tokens:6} |", end=" ")
                print(line(moe, tokens, args.rounds), flush=True)


@torch.inference_mode()
def line(moe: MixtureOfExperts, tokens: Tensor, rounds: int) -> str:
    """What the ways cost for these tokens."""
    experts = Experts(moe.fc1.weight, moe.fc1.bias, moe.fc2.weight, moe.fc2.bias)
    weights, chosen = moe.gate(tokens)
    ways: dict[str, Callable[[], Tensor]] = {
        how: partial(dispatch, tokens, weights, chosen, experts, how)
        for how in DISPATCHES
        if how != "grouped" or _HAS_GROUPED
    }
    layer = tokens, experts.weight1[0], experts.bias1[0]
    took = seconds({**ways, "torch": partial(F.linear, *layer), "ours": partial(linear, *layer)}, tokens.device, rounds)
    ratios = " ".join(f"{how} {took['loop'] / took[how]:.2f}" for how in ways)
    default, gain = choose_dispatch(tokens, experts), took["torch"] / took["ours"]
    return f"{1e3 * took['loop']:7.2f} | {ratios} | {default} | {gain:.2f}"


if __name__ == "__main__":
    main()
