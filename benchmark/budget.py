"""Whether budgets are kept: what is chosen for them, what it was expected to take, what it took, and how it adapts.

A camera's frames go through the embedded checkpoint with one budget after the other; at most 4 steps and 4 members of
depth, flow and one amodal instance are wanted. Then the pipeline is slowed down to half its speed for a third of the
frames, by sleeping.

    python benchmark/budget.py --frames 60

Latencies are those of whole calls. On a machine that does other things, too, they say as much about those.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from diffusion_perception_ros.benchmarking.clip import Clip
from diffusion_perception_ros.budget.plan import Plan
from diffusion_perception_ros.budget.stream import BudgetedStream
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.request import Request
from diffusion_perception_ros.stream import PerceptionStream

TASKS = ("depth", "flow", "amodal")


class SlowedPipeline(PerceptionPipeline):
    """Takes `slowness` times as long."""

    slowness = 1.0

    def batch(self, requests: Sequence[Request], *arguments: Any) -> list[PerceptionOutput]:
        """See ``PerceptionPipeline.batch``."""
        outputs = super().batch(requests, *arguments)
        stage_ms = {stage: self.slowness * ms for stage, ms in outputs[0].stage_ms.items()}
        time.sleep(1e-3 * (sum(stage_ms.values()) - sum(outputs[0].stage_ms.values())))
        return [replace(output, stage_ms=stage_ms) for output in outputs]


@dataclass(frozen=True)
class Frame:
    """What was chosen for one frame, and how long the call took, in ms."""

    plan: Plan
    milliseconds: float


class Camera:
    """Frames of a clip, pushed through a stream with a budget.

    Args:
        pipe: The pipeline.
        budget_ms: The budget.
        most: Steps and members wanted.

    Attributes:
        calibration_ms: How long calibrating took.
    """

    def __init__(self, pipe: PerceptionPipeline, budget_ms: float, most: int) -> None:
        self._clip = Clip(640, 480, instances=1)
        self._stream, self._most, self._sent = PerceptionStream(pipe), most, 0
        self._budgeted = BudgetedStream(self._stream, budget_ms, TASKS)
        began = time.perf_counter()
        self._budgeted.calibrate(self._request())
        self.calibration_ms = 1e3 * (time.perf_counter() - began)

    def frames(self, count: int) -> list[Frame]:
        """So many further frames."""
        seen = []
        for _ in range(count):
            request = self._request()
            self._sent += 1
            began = time.perf_counter()
            self._budgeted.batch([request])
            assert self._budgeted.plan is not None
            seen.append(Frame(self._budgeted.plan, 1e3 * (time.perf_counter() - began)))
        return seen

    def _request(self) -> Request:
        image, next_image, masks = self._clip.arguments(self._sent, TASKS)
        return self._stream.request(
            image, next_image, masks, frame=self._sent, next_frame=self._sent + 1, tasks=TASKS,
            sampler="ddim_trailing", num_inference_steps=self._most, ensemble_size=self._most,
        )  # fmt: skip


def row(title: str, budget_ms: float, frames: Sequence[Frame]) -> str:
    """The most frequent plan, what it was expected to take, and what all frames took."""
    settings = Counter((f.plan.tasks, f.plan.num_inference_steps, f.plan.ensemble_size) for f in frames)
    ((tasks, steps, members), often), *_ = settings.most_common()
    predicted = statistics.median(
        f.plan.predicted_ms
        for f in frames
        if (f.plan.tasks, f.plan.num_inference_steps, f.plan.ensemble_size) == (tasks, steps, members)
    )
    taken = [f.milliseconds for f in frames]
    changes = sum(a.plan.tasks != b.plan.tasks or a.plan.num_inference_steps != b.plan.num_inference_steps
                  or a.plan.ensemble_size != b.plan.ensemble_size for a, b in pairwise(frames))  # fmt: skip
    return (
        f"{title:>12s} {'+'.join(tasks):18s} {steps:5d} {members:7d} {often / len(frames):6.0%} {changes:7d} "
        f"{predicted:9.0f} {statistics.median(taken):9.0f} {np.quantile(taken, 0.95):9.0f} "
        f"{sum(ms <= budget_ms for ms in taken) / len(taken):7.0%}"
    )


HEADING = (
    f"{'':>12s} {'mostly':18s} {'steps':>5s} {'members':>7s} {'often':>6s} {'changes':>7s} "
    f"{'predicted':>9s} {'median':>9s} {'95 %':>9s} {'within':>7s}"
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", type=float, nargs="+", default=[50.0, 100.0, 200.0, 400.0], metavar="MS")
    parser.add_argument("--frames", type=int, default=60, help="for each budget (default: %(default)s)")
    parser.add_argument("--most", type=int, default=4, help="steps and members wanted (default: %(default)s)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    pipe = PerceptionPipeline.embedded(args.device)
    print(f"embedded checkpoint, {pipe.device}, {args.threads} threads; times in ms, a frame of 640x480 each")
    print(HEADING)
    calibrations = []
    for budget_ms in args.budgets:
        camera = Camera(pipe, budget_ms, args.most)
        calibrations.append(camera.calibration_ms)
        print(row(f"{budget_ms:g} ms", budget_ms, camera.frames(args.frames)), flush=True)
    print(f"calibration: {', '.join(f'{ms:.0f}' for ms in calibrations)} ms")
    budget_ms = args.budgets[-1]
    slowed = SlowedPipeline(pipe.transformer, pipe.codec, pipe.scheduler_config, pipe.metadata)
    camera = Camera(slowed, budget_ms, args.most)
    print(f"a budget of {budget_ms:g} ms, and a pipeline that is slowed down:")
    print(HEADING)
    for title, slowness in (("as it is", 1.0), ("half speed", 2.0), ("as it is", 1.0)):
        slowed.slowness = slowness
        print(row(title, budget_ms, camera.frames(args.frames)), flush=True)


if __name__ == "__main__":
    main()
