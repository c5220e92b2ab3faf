"""What a run holds: network, averaged weights, optimisers and counters; how they are saved and exported."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from diffusion_perception_ros.checkpoint import check_parts
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.codec import ImageCodec
from diffusion_perception_ros.model.transformer import cast
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.training.config import TrainingConfig
from diffusion_perception_ros.training.initialize import make_codec, make_transformer
from diffusion_perception_ros.training.optimizer import make_optimizers
from diffusion_perception_ros.training.state import export, load_state, save_state

STATE_FILE = "state.pt"


class Run:
    """The parts of a run.

    Args:
        config: Of the run.
        accelerator: Places them.
        folder: Where states and checkpoints are.

    Attributes:
        step: Steps taken.
        minutes: Spent on them, over all sittings.
        best: Lowest `badness` so far.
        sums: Of the losses since the last row of the log.

    Raises:
        InputError: The sizes in the configuration do not fit each other.
    """

    def __init__(self, config: TrainingConfig, accelerator: Accelerator, folder: Path) -> None:
        self.config = config
        self.accelerator = accelerator
        self.folder = folder
        self.codec: ImageCodec = make_codec(config).to(accelerator.device)
        network = make_transformer(config, self.codec)
        check_parts(network, self.codec, config.metadata())
        self.average = copy.deepcopy(network).eval().requires_grad_(False).to(accelerator.device)
        self.network: nn.Module = accelerator.prepare(network)
        self.optimizers: list[Any] = [
            accelerator.prepare(optimizer) for optimizer in make_optimizers(network, config.optimizer)
        ]
        self.step = 0
        self.minutes = 0.0
        self.best = math.inf
        self.sums: dict[str, float] = {}

    @torch.no_grad()
    def update_average(self) -> None:
        """Exponential moving average, shorter at the beginning, where weights change most."""
        decay = min(self.config.optimizer.ema, (1 + self.step) / (10 + self.step))
        weights = list(self.accelerator.unwrap_model(self.network).parameters())
        torch._foreach_lerp_(list(self.average.parameters()), weights, 1 - decay)

    def pipeline(self) -> PerceptionPipeline:
        """The averaged weights as users get them."""
        return PerceptionPipeline(
            self.average, self.codec, self.config.diffusion.scheduler_config(), self.config.metadata()
        )

    def export(self, name: str) -> None:
        """Write the averaged weights, in half precision, as a checkpoint folder."""
        half = copy.deepcopy(self.average)
        cast(half, torch.float16)
        pipe = PerceptionPipeline(half, self.codec, self.config.diffusion.scheduler_config(), self.config.metadata())
        export(pipe, self.folder / name)

    def save(self) -> None:
        """Write everything that `resume` needs; what else is random follows from the number of the step."""
        state = {
            "network": self.accelerator.unwrap_model(self.network).state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "minutes": self.minutes,
            "best": self.best,
            "sums": self.sums,
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
