"""What a run holds: network, averaged weights, optimisers and counters; how they are saved and exported."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.training.compute import FlopMeter
from diffusion_perception_ros.training.config import TrainingConfig
from diffusion_perception_ros.training.optimizer import make_optimizers
from diffusion_perception_ros.training.stage import Stage
from diffusion_perception_ros.training.state import load_state, replace_folder, save_state

STATE_FILE = "state.pt"


class Run:
    """The parts of a run.

    Args:
        config: Of the run.
        stage: What is trained.
        accelerator: Places it.
        folder: Where states and checkpoints are.

    Attributes:
        step: Steps taken.
        minutes: Spent on them, over all sittings.
        meter: Of the arithmetic they took.
        best: Lowest `badness` so far.
        sums: Of the losses since the last row of the log.
    """

    def __init__(self, config: TrainingConfig, stage: Stage[Any], accelerator: Accelerator, folder: Path) -> None:
        self.config = config
        self.stage = stage
        self.accelerator = accelerator
        self.folder = folder
        self.average = copy.deepcopy(stage.network).eval().requires_grad_(False).to(accelerator.device)
        self.network: nn.Module = accelerator.prepare(stage.network)
        self.optimizers: list[Any] = [
            accelerator.prepare(optimizer) for optimizer in make_optimizers(stage.network, config.optimizer)
        ]
        self.meter = FlopMeter(stage.network, stage.sample_flops(), accelerator.num_processes)
        self.step = 0
        self.minutes = 0.0
        self.best = math.inf
        self.sums: dict[str, Tensor | float] = {}

    def add(self, name: str, value: Tensor) -> None:
        """To a sum of the log, which stays where the value is."""
        self.sums[name] = value + self.sums.get(name, 0.0)

    @torch.no_grad()
    def update_average(self) -> None:
        """Exponential moving average, shorter at the beginning, where weights change most."""
        decay = min(self.config.optimizer.ema, (1 + self.step) / (10 + self.step))
        weights = list(self.accelerator.unwrap_model(self.network).parameters())
        torch._foreach_lerp_(list(self.average.parameters()), weights, 1 - decay)

    def export(self, name: str) -> None:
        """Write what users load into a folder, which appears under its name only when it is complete."""
        replace_folder(self.folder / name, lambda folder: self.stage.save(self.average, folder))

    def save(self) -> None:
        """Write everything that `resume` needs; what else is random follows from the number of the step."""
        state = {
            "network": self.accelerator.unwrap_model(self.network).state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "minutes": self.minutes,
            "flops": self.meter.flops,
            "best": self.best,
            "sums": {name: float(total) for name, total in self.sums.items()},
        }
        save_state(self.folder / STATE_FILE, state)

    def resume(self) -> None:
        """Go on where `save` was last called.

        Raises:
            InputError: There is nothing to resume, or it is of another network.
        """
        path = self.folder / STATE_FILE
        state = load_state(path)
        try:
            self.accelerator.unwrap_model(self.network).load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
        except (KeyError, RuntimeError, ValueError):
            raise InputError(
                f"{path}: it is of a network or optimiser of other sizes; choose another output folder."
            ) from None
        self.step, self.minutes = state["step"], state["minutes"]
        self.best, self.sums = state["best"], state["sums"]
        # States of earlier versions do not say, and whatever is added to it stays unknown.
        self.meter.flops = state.get("flops", math.nan)
