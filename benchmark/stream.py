"""What a stream saves: the same frames, tasks and weights through the pipeline and through `PerceptionStream`.

Random weights, with an image codec of the kind and size of Stable Diffusion's. The two take turns frame by frame, so
that a busy machine slows both.

    python benchmark/stream.py --resolution 256 --frames 6
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from diffusion_perception_ros.model.random import random_codec
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.stream import PerceptionStream

TASKS = ("depth", "flow")
STAGES = ("encode", "denoise", "decode")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=256, help="side of the network's square in pixels")
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.manual_seed(0)
    sizes = {"hidden_size": 384, "num_layers": 12, "num_attention_heads": 6, "mlp_size": 1536, "num_experts": 8}
    codec = random_codec(channels=(128, 256, 512, 512), layers_per_block=2, norm_num_groups=32)
    pipe = PerceptionPipeline.random(args.resolution, codec=codec, device=args.device, **sizes)
    stream = PerceptionStream(pipe)
    clip = np.random.default_rng(0).integers(0, 256, (args.frames + 2, 480, 640, 3)).astype(np.uint8)

    def by_pipeline(i: int) -> PerceptionOutput:
        return pipe(clip[i], clip[i + 1], tasks=TASKS, num_inference_steps=1, sampler="ddim_trailing")

    def by_stream(i: int) -> PerceptionOutput:
        return stream(
            clip[i], clip[i + 1], frame=i, next_frame=i + 1, tasks=TASKS, num_inference_steps=1, sampler="ddim_trailing"
        )

    seconds: dict[str, list[float]] = {"pipeline": [], "stream": []}
    stages: dict[str, dict[str, float]] = {}
    for i in range(args.frames + 1):
        for name, predict in (("pipeline", by_pipeline), ("stream", by_stream)):
            began = time.perf_counter()
            output = predict(i)
            if i:  # the first frame warms up, and fills the stream
                seconds[name].append(time.perf_counter() - began)
                stages[name] = dict(output.stage_ms)
    for name, times in seconds.items():
        parts = ", ".join(f"{stage} {stages[name][stage]:.0f}" for stage in STAGES)
        print(f"{name}: {1e3 * statistics.median(times):.0f} ms a frame; the last one in ms: {parts}")
    ratio = statistics.median(a / b for a, b in zip(seconds["pipeline"], seconds["stream"], strict=True))
    print(f"depth and flow, one step, {args.resolution}x{args.resolution}: the stream is {ratio:.2f} times as fast")


if __name__ == "__main__":
    main()
