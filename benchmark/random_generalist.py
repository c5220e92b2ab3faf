"""Makes a generalist with random weights of any size, where and in the type in which it runs.

Neither float32 weights nor a copy on the host: 2.76 billion parameters in bfloat16 are 5.5 GB of the device's memory.

    python benchmark/random_generalist.py --size 28x1152 --dtype bfloat16 --device cuda
"""

from __future__ import annotations

import argparse
import time

import torch

from diffusion_perception_ros.benchmarking.configuration import random_sizes
from diffusion_perception_ros.benchmarking.memory import WorkingMemory
from diffusion_perception_ros.benchmarking.random_generalist import random_generalist
from diffusion_perception_ros.device import resolve_device
from diffusion_perception_ros.model.flops import transformer_flops


def main() -> None:
    """Make it, run it once, and print what that took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="28x1152", help="blocks by width (default: %(default)s)")
    parser.add_argument("--resolution", type=int, default=512, help="(default: %(default)s)")
    parser.add_argument("--dtype", default="bfloat16", help="(default: %(default)s)")
    parser.add_argument("--device", default="auto", help="(default: %(default)s)")
    args = parser.parse_args()
    device, dtype = resolve_device(args.device), getattr(torch, args.dtype)
    sizes = {**(random_sizes(f"random {args.size}") or {}), "sample_size": args.resolution // 8}
    began = time.perf_counter()
    with WorkingMemory(device) as making:
        transformer = random_generalist(sizes, dtype, device)
        _wait(device)
    seconds = time.perf_counter() - began
    count = sum(parameter.numel() for parameter in transformer.parameters())
    weights = sum(tensor.nbytes for tensor in transformer.state_dict().values())
    print(f"{count / 1e9:.3g} billion parameters, {weights / 1e9:.3g} GB, made in {seconds:.1f} s on {device}")
    if making.peak is not None:
        print(f"memory while it was made: {making.peak / 1e9:.3g} GB")
    latents = torch.randn(1, 12, sizes["sample_size"], sizes["sample_size"], device=device, dtype=dtype)
    step, label = torch.tensor([999], device=device), torch.tensor([1000], device=device)
    with torch.inference_mode():
        transformer(latents, step, label)
        _wait(device)
        began = time.perf_counter()
        out = transformer(latents, step, label).sample
        _wait(device)
    milliseconds = 1e3 * (time.perf_counter() - began)
    rate = transformer_flops(transformer) / milliseconds / 1e9
    print(
        f"a forward pass of one sample: {milliseconds:.1f} ms, {rate:.3g} TFLOP/s, finite: {bool(out.isfinite().all())}"
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
