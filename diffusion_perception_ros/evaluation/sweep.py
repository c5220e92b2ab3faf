"""What test-time compute buys: every combination of sampler, noise schedule, steps and ensemble, measured.

Steps, ensembles and noise schedules are the three axes of test-time compute in *Scaling Properties of Diffusion Models
for Perceptual Tasks* (Ravishankar et al. 2025).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import median
from typing import NamedTuple

import numpy as np

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.evaluation.evaluate import Evaluation, Metrics, evaluate, predict_with
from diffusion_perception_ros.evaluation.samples import Sample
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.sampling.samplers import check_sampling, find_sampler
from diffusion_perception_ros.sampling.settings import SamplingSettings

SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
_WARM_UP_CALLS = 2
# Of the metric; smaller gains are not called gains, and neither are those below two standard errors.
_WORTH_NAMING = 0.01


class Headline(NamedTuple):
    """The metric that a task is judged by."""

    metric: str
    label: str
    larger_is_better: bool = False


HEADLINES = {
    "depth": Headline("abs_rel", "AbsRel"),
    "flow": Headline("epe", "EPE (px)"),
    "amodal": Headline("iou", "mIoU", larger_is_better=True),
    "normals": Headline("mean", "mean degrees"),
}


@dataclass(frozen=True)
class Setting:
    """One combination."""

    sampler: str
    schedule: str
    steps: int
    ensemble: int

    def __str__(self) -> str:
        members = f", {self.ensemble} members" if self.ensemble > 1 else ""
        return f"{self.sampler}, {self.schedule}, {self.steps} step{'s' * (self.steps > 1)}{members}"


@dataclass(frozen=True)
class Measurement:
    """What a setting costs and gives.

    Attributes:
        setting: The combination.
        milliseconds: Median time of one sample, all its tasks together, pictures in and predictions out.
        evaluation: Its accuracy.
    """

    setting: Setting
    milliseconds: float
    evaluation: Evaluation

    def cost(self, task: str) -> float:
        """The headline metric of a task, smaller is better."""
        headline = HEADLINES[task]
        value = self.evaluation.method[task][headline.metric]
        return -value if headline.larger_is_better else value


def plan(
    pipe: PerceptionPipeline,
    samplers: Sequence[str],
    schedules: Sequence[str],
    steps: Sequence[int],
    ensembles: Sequence[int],
    flip_members: bool,
) -> tuple[list[Setting], dict[str, list[str]]]:
    """All combinations.

    Returns:
        Those that are possible, cheap ones first, and those that are not, by reason.

    Raises:
        InputError: A sampler or schedule is unknown.
    """
    for schedule in schedules:
        if schedule not in SCHEDULES:
            raise InputError(f"noise schedule {schedule!r} is unknown; use one of {', '.join(SCHEDULES)}.")
    settings: list[Setting] = []
    skipped: dict[str, list[str]] = {}
    same: dict[tuple[str, bytes], str] = {}
    # The checkpoint's own comes first: where a sampler makes no difference between schedules, it is the one to keep.
    ordered = sorted(schedules, key=lambda schedule: schedule != pipe.scheduler_config["beta_schedule"])
    for sampler, schedule in product(map(find_sampler, samplers), ordered):
        config = with_schedule(pipe, schedule).scheduler_config
        noise = sampler.scheduler(config).alphas_cumprod.numpy().tobytes()
        kept = same.setdefault((sampler.name, noise), schedule)
        if kept != schedule:
            reason = f"sampler {sampler.name!r} does not use the checkpoint's noise schedule; it ran with {kept}."
            skipped.setdefault(reason, []).append(schedule)
            continue
        for count, ensemble in product(steps, ensembles):
            setting = Setting(sampler.name, schedule, count, ensemble)
            try:
                check_sampling(sampler, config, count, ensemble, flip_members and ensemble > 1)
            except InputError as reason:
                skipped.setdefault(str(reason), []).append(str(setting))
            else:
                settings.append(setting)
    return sorted(settings, key=lambda setting: setting.steps * setting.ensemble), skipped


def with_schedule(pipe: PerceptionPipeline, schedule: str) -> PerceptionPipeline:
    """The same network under another noise schedule than it was trained with."""
    if schedule == pipe.scheduler_config["beta_schedule"]:
        return pipe
    config = {**pipe.scheduler_config, "beta_schedule": schedule, "trained_betas": None}
    changed = PerceptionPipeline(pipe.transformer, pipe.codec, config, pipe.metadata, pipe.decoder)
    changed.max_batch_size = pipe.max_batch_size
    return changed


def measure(
    pipe: PerceptionPipeline,
    setting: Setting,
    sampling: SamplingSettings,
    samples: Sequence[Sample],
    with_baselines: bool,
    progress: Callable[[], object],
) -> Measurement:
    """Evaluate one setting and time it.

    Args:
        pipe: The pipeline, with the checkpoint's own schedule.
        setting: The combination.
        sampling: What all settings share: flips, resizing and the seed of the noise.
        samples: At least one.
        with_baselines: Whether to evaluate the baselines as well.
        progress: Called after each sample.
    """
    sampling = replace(
        sampling,
        num_inference_steps=setting.steps,
        sampler=setting.sampler,
        ensemble_size=setting.ensemble,
        flip_members=sampling.flip_members and setting.ensemble > 1,
    )
    predict = predict_with(with_schedule(pipe, setting.schedule), sampling)
    seconds: list[float] = []

    def timed(sample: Sample, tasks: Sequence[str]) -> PerceptionOutput:
        if not seconds:
            for _ in range(_WARM_UP_CALLS):
                predict(sample, tasks)
        start = time.perf_counter()
        output = predict(sample, tasks)  # in the host's memory, so the device has finished
        seconds.append(time.perf_counter() - start)
        progress()
        return output

    evaluation = evaluate(timed, samples, pipe.metadata.tasks, with_baselines=with_baselines)
    return Measurement(setting, median(seconds) * 1e3, evaluation)


def pareto_front(measurements: Sequence[Measurement], task: str) -> list[Measurement]:
    """Those that no other one beats in both time and the task's headline metric, from fast to slow."""
    front: list[Measurement] = []
    for measurement in sorted(measurements, key=lambda m: (m.milliseconds, m.cost(task))):
        if not front or measurement.cost(task) < front[-1].cost(task):
            front.append(measurement)
    return front


def conclusion(measurements: Sequence[Measurement], task: str) -> str:
    """One sentence: what the best setting buys over the fastest, paired over the samples."""
    headline = HEADLINES[task]
    front = pareto_front(measurements, task)
    fastest, best = front[0], front[-1]
    before, after = (m.evaluation.method[task][headline.metric] for m in (fastest, best))
    if best is fastest:
        return f"{task}: more compute buys nothing; the fastest setting has the best {headline.label}, {before:.3f}."
    pairs = zip(fastest.evaluation.each[task], best.evaluation.each[task], strict=True)
    gains = np.array([a[headline.metric] - b[headline.metric] for a, b in pairs])
    error = float(gains.std(ddof=1)) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
    gain = abs(before - after)
    price = f"{best.milliseconds / fastest.milliseconds:.1f} times the time ({best.setting})"
    if gain < max(2 * error, _WORTH_NAMING * before):
        return (
            f"{task}: more compute buys next to nothing; {headline.label} is {after:.3f} instead of {before:.3f} "
            f"(difference {gain:.3f} ± {error:.3f}) for {price}."
        )
    return (
        f"{task}: {headline.label} is {after:.3f} instead of {before:.3f} ({gain / before:.1%} better, "
        f"± {error / before:.1%}) for {price}."
    )


def best_baseline(baselines: Mapping[str, Metrics], task: str) -> tuple[str, float]:
    """Name and value of the baseline with the best headline metric."""
    headline = HEADLINES[task]
    choose = max if headline.larger_is_better else min
    name = choose(baselines, key=lambda name: baselines[name][headline.metric])
    return name, baselines[name][headline.metric]
