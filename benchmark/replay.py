"""What overlapping and batches save a replay: the same bag and weights frame by frame, overlapped, and in batches.

The ways take turns, round by round, so that a busy machine slows all; ratios are medians over the rounds. Time of the
processor is what all threads used of it; it hardly depends on what else the machine is doing.

    python benchmark/replay.py drive_mcap --rounds 5
    python benchmark/replay.py drive_mcap --checkpoint random --resolution 256 --rounds 3

``random`` is a generalist in the released format, 6 blocks of width 384 with 8 experts and a small KL autoencoder.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from diffusion_perception_ros.model.random import random_codec
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.replay import ReplaySettings, replay
from diffusion_perception_ros.replay.engine import Engine
from diffusion_perception_ros.replay.reader import BagReader
from diffusion_perception_ros.replay.topics import choose_topics
from diffusion_perception_ros.replay.writer import BagWriter

TASKS = ("depth", "flow")


def in_turn(source: Path, output: Path, pipe: PerceptionPipeline, settings: ReplaySettings) -> dict[str, float]:
    """Read, predict and write frame by frame in one thread; the seconds of each."""
    seconds: defaultdict[str, float] = defaultdict(float)
    with BagReader(source) as bag, BagWriter(output, settings.storage) as writer:
        engine = Engine(bag, choose_topics(bag, settings), pipe, settings, writer)
        steps = engine.read.steps()
        while True:
            began = time.perf_counter()
            step = next(steps, None)
            read = time.perf_counter()
            seconds["reading"] += read - began
            if step is None:
                return seconds
            if step.moment is not None:
                prediction = engine.predict([step.moment])[0]
                predicted = time.perf_counter()
                engine.recorder.write(step.moment, prediction)
                seconds["predicting"] += predicted - read
                seconds["writing"] += time.perf_counter() - predicted


def load(name: str, resolution: int, device: str) -> PerceptionPipeline:
    """The checkpoint of a name, or a folder."""
    if name == "embedded":
        return PerceptionPipeline.embedded(device)
    if name != "random":
        return PerceptionPipeline.from_pretrained(name, device)
    sizes: dict[str, Any] = {
        "hidden_size": 384,
        "num_layers": 6,
        "num_attention_heads": 6,
        "mlp_size": 1536,
        "num_experts": 8,
    }
    codec = random_codec(channels=(32, 64, 128, 128), layers_per_block=1, norm_num_groups=16)
    return PerceptionPipeline.random(resolution, codec=codec, device=device, **sizes)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bag", type=Path, help="with one camera")
    parser.add_argument("--checkpoint", default="embedded", help="embedded, random or a folder (default: embedded)")
    parser.add_argument("--resolution", type=int, default=256, help="of a random checkpoint (default: %(default)s)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=None, help="frames at once (default: what suits the device)")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    pipe = load(args.checkpoint, args.resolution, args.device)

    def settings(batch_size: int | None) -> ReplaySettings:
        return ReplaySettings(tasks=TASKS, num_inference_steps=1, batch_size=batch_size)

    stages: list[dict[str, float]] = []
    ways: dict[str, Callable[[Path], object]] = {
        "frame by frame": lambda output: stages.append(in_turn(args.bag, output, pipe, settings(1))),
        "overlapped": lambda output: replay(args.bag, output, pipe, settings(1)),
        "in batches": lambda output: replay(args.bag, output, pipe, settings(args.batch)),
    }
    wall: defaultdict[str, list[float]] = defaultdict(list)
    processor: defaultdict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        frames = replay(args.bag, Path(name) / "warm-up", pipe, settings(args.batch)).frames_processed
        for round_ in range(args.rounds):
            for way, run in ways.items():
                began, began_processor = time.perf_counter(), time.process_time()
                run(Path(name) / f"{way} {round_}")
                wall[way].append(time.perf_counter() - began)
                processor[way].append(time.process_time() - began_processor)
    threads = f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
    print(f"{frames} frames, {' and '.join(TASKS)}, one step, {args.checkpoint} checkpoint, {args.device}, {threads}")
    parts = {stage: statistics.median(1e3 * s[stage] / frames for s in stages) for stage in stages[0]}
    print("frame by frame, ms a frame: " + ", ".join(f"{stage} {ms:.1f}" for stage, ms in parts.items()))
    print(f"{'':16s} {'ms a frame':>11s} {'times as fast':>14s} {'processor ms':>13s} {'times less':>11s}")
    first = next(iter(ways))
    for way in ways:
        ratio, less = (
            statistics.median(a / b for a, b in zip(spent[first], spent[way], strict=True))
            for spent in (wall, processor)
        )
        times = (1e3 * statistics.median(spent[way]) / frames for spent in (wall, processor))
        print(f"{way:16s} {next(times):11.1f} {ratio:14.2f} {next(times):13.1f} {less:11.2f}")


if __name__ == "__main__":
    main()
