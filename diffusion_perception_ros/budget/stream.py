"""BudgetedStream: a stream that computes as much as fits a number of milliseconds, and the device's memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from diffusion_perception_ros.budget.calibrate import calibrate
from diffusion_perception_ros.budget.costs import CostModel, Work
from diffusion_perception_ros.budget.estimate import UpperEstimate
from diffusion_perception_ros.budget.plan import Limits, Plan, Wanted, plan, reduced
from diffusion_perception_ros.budget.work import as_planned, wanted_by, work_of
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.request import Request
from diffusion_perception_ros.stream import PerceptionStream


class DeviceMemoryError(InputError):
    """Not even the least that can be computed fits into the device's memory."""


class BudgetedStream:
    """What requests want is the upper limit; ensemble members, then steps, then tasks are given up to keep the budget.

    Where the device runs out of memory the same is done: first smaller batches, which cost only time, then fewer
    samples. That stays so until ``forgive``, or until nothing fits any more.

    Args:
        stream: Computes what is planned.
        budget_ms: Time for one frame, in ms; None for no limit. The first batch calibrates, unless `calibrate` was
            called before.
        importance: Tasks, the most important one first; it is always computed.

    Attributes:
        plan: Of the last batch.
        degraded_reason: What the last batch was denied, and why; empty if nothing was.
    """

    def __init__(
        self, stream: PerceptionStream, budget_ms: float | None = None, importance: Sequence[str] = ()
    ) -> None:
        self._stream = stream
        self._costs: CostModel | None = None
        self._batch_limit = self._samples_limit = math.inf
        self._elsewhere = UpperEstimate(0.0)
        self.budget_ms = budget_ms
        self.importance = tuple(importance)
        self.plan: Plan | None = None
        self.degraded_reason = ""

    def batch(self, requests: Sequence[Request], frames: int = 1) -> list[PerceptionOutput]:
        """See ``PerceptionStream.batch``.

        Args:
            requests: From ``PerceptionStream.request``, all with the same sampler.
            frames: How many budgets they have together.

        Returns:
            A prediction for each request; what was given up is not in it.

        Raises:
            DeviceMemoryError: Not even one sample at a time fits.
        """
        if not requests:
            return []
        while True:
            wanted = self._wanted(requests)
            chosen = Plan(tuple(wanted.work.tasks)[:1], wanted.steps[0], 1, math.nan)
            try:
                with self._limited_batches():
                    if self.budget_ms is not None and not self.is_calibrated:
                        self.calibrate(requests[0])
                    chosen = self._choose(wanted, frames)
                    return self._compute(requests, wanted.work, chosen)
            except torch.cuda.OutOfMemoryError:
                pass
            # Outside of the handler, whose traceback would hold on to the tensors.
            self._shed_memory(wanted.work, chosen)

    @property
    def is_calibrated(self) -> bool:
        """Whether it is known how long things take."""
        return self._costs is not None

    def calibrate(self, request: Request) -> None:
        """Measure how long things take on this device, by what will be wanted at most."""
        self._costs = calibrate(self._stream.pipe, request, self.importance)

    def spent_elsewhere(self, milliseconds: float) -> None:
        """What a frame took beside its prediction, such as publishing it; the budget is for both."""
        self._elsewhere.add(max(0.0, milliseconds))

    def forgive(self) -> None:
        """Try again what did not fit into the device's memory."""
        self._batch_limit = self._samples_limit = math.inf

    def reset(self) -> None:
        """See ``PerceptionStream.reset``."""
        self._stream.reset()

    def _wanted(self, requests: Sequence[Request]) -> Wanted:
        pipe = self._stream.pipe
        most = int(min(pipe.max_batch_size, self._batch_limit))
        work = work_of(pipe.metadata, requests, self.importance, most)
        return wanted_by(requests, work, pipe.scheduler_config)

    @contextmanager
    def _limited_batches(self) -> Iterator[None]:
        pipe = self._stream.pipe
        unlimited = pipe.max_batch_size
        pipe.max_batch_size = int(min(unlimited, self._batch_limit))
        try:
            yield
        finally:
            pipe.max_batch_size = unlimited

    def _choose(self, wanted: Wanted, frames: int) -> Plan:
        milliseconds = math.inf if self.budget_ms is None else self.budget_ms * frames - self._elsewhere.value
        chosen = plan(Limits(milliseconds, self._samples_limit), wanted, self._costs or CostModel())
        self.plan, self.degraded_reason = chosen, self._reason(wanted, chosen)
        return chosen

    def _compute(self, requests: Sequence[Request], work: Work, chosen: Plan) -> list[PerceptionOutput]:
        planned = {i: as_planned(request, chosen) for i, request in enumerate(requests)}
        planned = {i: request for i, request in planned.items() if request.tasks}
        answers = dict(zip(planned, self._stream.batch(list(planned.values())), strict=True))
        stage_ms = next(iter(answers.values())).stage_ms
        if self._costs is not None:
            self._costs.observe(work, chosen.tasks, chosen.num_inference_steps, chosen.ensemble_size, stage_ms)
        return [answers.get(i, PerceptionOutput(stage_ms=stage_ms)) for i in range(len(requests))]

    def _shed_memory(self, work: Work, chosen: Plan) -> None:
        torch.cuda.empty_cache()
        samples = chosen.ensemble_size * work.samples(chosen.tasks)
        _, largest = work.batches(samples)
        if largest > 1:
            self._batch_limit = largest // 2
        elif samples > work.samples(chosen.tasks[:1]):
            self._samples_limit = samples - 1
        else:
            # Whoever else has taken the memory may give it back.
            self.forgive()
            raise DeviceMemoryError("the device ran out of memory with one sample at a time; use a smaller checkpoint.")

    def _reason(self, wanted: Wanted, chosen: Plan) -> str:
        less, causes = reduced(wanted, chosen), []
        if self.budget_ms is not None:
            causes.append(f"a budget of {self.budget_ms:g} ms")
        if self._samples_limit < math.inf:
            causes.append(f"{self._samples_limit:g} samples, because the device ran out of memory")
        reasons = [f"{less}, for {' and '.join(causes)}"] if less else []
        if self._batch_limit < math.inf:
            reasons.append(f"batches of {self._batch_limit:g}, because the device ran out of memory")
        return "; ".join(reasons)
