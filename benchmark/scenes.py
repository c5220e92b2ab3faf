"""How many frames a second the scenes are rendered at, drawing included: one process, then one for every core.

    python benchmark/scenes.py --size 128

Each process uses one thread: the tensors of one frame are too small to share.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time

import torch

from diffusion_perception_ros.scenes import draw_scene, render, render_images, render_pairs

_FIRST_SEED = 10_000


def whole_frames(first: int, count: int, size: int) -> int:
    """Frames with all of their truth; returns how many."""
    for seed in range(first, first + count):
        render([draw_scene(seed)], [0], size, size)
    return count


def images(first: int, count: int, size: int) -> int:
    """Images alone."""
    for seed in range(first, first + count):
        render_images([draw_scene(seed)], [0], size, size)
    return count


def pairs(first: int, count: int, size: int) -> int:
    """Pairs for training, two frames each."""
    render_pairs(range(first, first + count), size, size)
    return 2 * count


def rate(job: str, first: int, count: int, size: int) -> tuple[float, float]:
    """Frames a second of one job in this process, and frames for each second of processor time.

    The second does not depend on what else the machine is doing.
    """
    torch.set_num_threads(1)
    work = {"frames with truth": whole_frames, "images alone": images, "pairs": pairs}[job]
    work(first, 4, size)
    start, start_processor = time.perf_counter(), time.process_time()
    frames = work(first, count, size)
    return frames / (time.perf_counter() - start), frames / (time.process_time() - start_processor)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=128, help="height and width (default: %(default)s)")
    parser.add_argument("--scenes", type=int, default=96, help="for each process (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="(default: one for each core)")
    args = parser.parse_args()
    size = f"{args.size} x {args.size}"
    print(f"{size:20s} {'1 process':>12s} {f'{args.processes} processes':>12s} {'each second of processor time':>30s}")
    # Threads of a parent that has computed already do not survive forking.
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        for job in ("frames with truth", "images alone", "pairs"):
            alone = pool.apply(rate, (job, _FIRST_SEED, args.scenes, args.size))
            firsts = [_FIRST_SEED + k * args.scenes for k in range(args.processes)]
            rates = pool.starmap(rate, [(job, first, args.scenes, args.size) for first in firsts], 1)
            print(f"{job:20s} {alone[0]:12.1f} {sum(wall for wall, _ in rates):12.1f} {alone[1]:30.1f}")


if __name__ == "__main__":
    main()
