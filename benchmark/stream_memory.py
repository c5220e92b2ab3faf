"""Whether memory stays flat over a long stream: depth, flow and an object of every frame, by the smallest network.

    python benchmark/stream_memory.py --frames 20000

Prints resident memory ten times, and how much it grows in each thousand frames of the second half.
"""

from __future__ import annotations

import argparse

import numpy as np

from diffusion_perception_ros.benchmarking.clip import Clip
from diffusion_perception_ros.benchmarking.memory import resident_bytes
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.stream import PerceptionStream


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=20_000, help="(default: %(default)s)")
    parser.add_argument("--every", type=int, default=100, help="frames between samples (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="(default: %(default)s)")
    args = parser.parse_args()
    sizes = {"hidden_size": 16, "num_layers": 1, "num_attention_heads": 2, "mlp_size": 16, "num_experts": 2}
    stream = PerceptionStream(PerceptionPipeline.random(16, device=args.device, **sizes))
    clip = Clip(32, 24, 1)
    tasks = ("depth", "flow", "amodal")
    frames, megabytes = [], []
    for i in range(args.frames + 1):
        stream(*clip.arguments(i, tasks), frame=i, next_frame=i + 1, tasks=tasks)
        if i % args.every == 0:
            frames.append(i)
            megabytes.append(resident_bytes() / 2**20)
        if i % max(args.frames // 10, 1) == 0:
            print(f"frame {i}: {resident_bytes() / 2**20:.1f} MB", flush=True)
    half = len(frames) // 2
    slope = np.polyfit(frames[half:], megabytes[half:], 1)[0]
    growth = max(megabytes) - megabytes[half]
    print(f"growth in the second half: {1e3 * slope:.3f} MB in 1000 frames, {growth:.1f} MB in all")


if __name__ == "__main__":
    main()
