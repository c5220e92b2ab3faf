"""The training loop."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from accelerate import Accelerator
from tqdm import tqdm

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.media.pictures import write_picture
from diffusion_perception_ros.training.batches import Batches, Questions
from diffusion_perception_ros.training.cache import make_folder
from diffusion_perception_ros.training.config import TrainingConfig
from diffusion_perception_ros.training.log import Log
from diffusion_perception_ros.training.run import STATE_FILE, Run
from diffusion_perception_ros.training.sources import open_sources
from diffusion_perception_ros.training.stages import make_stage


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        step: Steps taken.
        minutes: Spent on them.
        reason: ``finished``, ``time`` (``max_minutes`` are over) or ``interrupted``.
    """

    step: int
    minutes: float
    reason: str


def train(config: TrainingConfig, folder: Path, *, resume: bool = False) -> Outcome:
    """Train, and write states, checkpoints, logs and sheets into a folder.

    ``best/`` and ``last/`` are checkpoints for ``PerceptionPipeline.from_pretrained``; ``losses.csv`` and
    ``validation.csv`` the logs; ``sheets/`` pictures; ``state.pt`` what resuming needs.

    Args:
        config: Of the run.
        folder: Made if need be.
        resume: Go on from the state in the folder, with the configuration given now.

    Raises:
        InputError: The configuration is impossible; or the folder holds a run, but ``resume`` is not set, or none,
            but it is.
    """
    if (folder / STATE_FILE).is_file() and not resume:
        raise InputError(f"{folder} holds a run already; go on with --resume, or choose another folder.")
    # Its gradients were not finite for 256 samples of 64 tokens (PyTorch 2.11 on an H100, whose choice it is).
    torch.backends.cuda.enable_cudnn_sdp(False)
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=config.precision)
    make_folder(folder)
    workers = config.data.workers if accelerator.is_local_main_process else 0
    sources = open_sources(config, folder, workers, accelerator.device)
    try:
        run = Run(config, make_stage(config, accelerator.device), accelerator, folder)
        if resume:
            run.resume()
        batches = Batches(config, sources, accelerator.process_index)
        if run.step < config.steps:
            batches.prepare(run.step)
        accelerator.wait_for_everyone()
        return _Loop(run, batches).work()
    finally:
        for source in sources:
            source.close()


class _Loop:
    def __init__(self, run: Run, batches: Batches) -> None:
        self.run, self.batches, self.config = run, batches, run.config
        self.accelerator = run.accelerator
        self.losses = run.stage.losses()
        self.is_main = self.accelerator.is_main_process
        if self.is_main:
            self.logs = {name: Log(run.folder / f"{name}.csv", run.step) for name in ("losses", "validation")}

    def work(self) -> Outcome:
        run, config, accumulation = self.run, self.config, self.config.optimizer.accumulation
        bar = tqdm(desc="training", total=config.steps, initial=run.step, unit="step", disable=None)
        before = time.monotonic()
        with bar, _interruptible() as interrupted:
            for step, part, batch in self.batches.stream(run.step):
                self._accumulate(batch, step, part)
                if part < accumulation - 1:
                    continue
                self._update()
                now = time.monotonic()
                run.minutes += (now - before) / 60
                before = now
                bar.update()
                self.batches.refresh(run.step)
                is_over = config.max_minutes is not None and run.minutes >= config.max_minutes
                stop = self._agree(bool(interrupted) or is_over)
                self._report(ends=stop or run.step == config.steps)
                if stop:
                    return Outcome(run.step, run.minutes, "interrupted" if interrupted else "time")
        return Outcome(run.step, run.minutes, "finished")

    def _accumulate(self, batch: list[Questions], step: int, part: int) -> None:
        """Gradients of one batch."""
        accumulation = self.config.optimizer.accumulation
        rng = self.batches.rng(step, part, purpose=1)
        is_last = part == accumulation - 1
        with nullcontext() if is_last else self.accelerator.no_sync(self.run.network):
            loss, parts = self.losses(self.run.network, batch, rng)
            self.accelerator.backward(loss / accumulation)
        # Summed on the device, which must not be waited for.
        for name, value in {"loss": loss, **parts}.items():
            self.run.add(name, value.detach() / accumulation)

    def _update(self) -> None:
        """A step of the optimisers."""
        run, clip = self.run, self.config.optimizer.gradient_clip
        norm = self.accelerator.clip_grad_norm_(run.network.parameters(), clip)
        rate = self.config.learning_rate(run.step)
        for optimizer in run.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        run.add("gradient_norm", torch.as_tensor(norm))
        run.step += 1
        run.update_average()

    def _agree(self, stop: bool) -> bool:
        """Whether any process wants to stop: they have to do it together."""
        if self.accelerator.num_processes == 1:
            return stop
        wishes = torch.tensor([float(stop)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(wishes, reduction="sum") > 0)

    def _report(self, ends: bool) -> None:
        """Whatever is due after a step; the state last, so that a resumed run repeats what may be missing."""
        run, report = self.run, self.config.report
        if not self.is_main:
            if run.step % report.log == 0:
                run.sums.clear()
            return
        if run.step % report.log == 0:
            means = {name: float(total) / report.log for name, total in run.sums.items()}
            rate = self.config.learning_rate(run.step - 1)
            self.logs["losses"].write(run.step, {**means, **self._spent(), "learning_rate": rate})
            run.sums.clear()
        if run.step % report.validation == 0 or ends:
            self._validate()
        if run.step % report.sheet == 0 or ends:
            make_folder(run.folder / "sheets")
            write_picture(run.folder / "sheets" / f"{run.step:07d}.png", run.stage.draw(run.average, run.step))
        if run.step % report.checkpoint == 0 or ends:
            run.export("last")
            run.save()

    def _spent(self) -> dict[str, float]:
        return {"minutes": self.run.minutes, "flops": self.run.meter.flops}

    def _validate(self) -> None:
        run = self.run
        value, metrics = run.stage.validate(run.average)
        self.logs["validation"].write(run.step, {**self._spent(), "badness": value, **metrics})
        if value < run.best:
            run.best = value
            run.export("best")


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Within, Ctrl-C and SIGTERM fill the list instead of raising; the second one raises."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
