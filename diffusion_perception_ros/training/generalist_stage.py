"""Stage 2: the transformer on all tasks, behind an image codec that stays as it is."""

from __future__ import annotations

import copy
from functools import cached_property
from pathlib import Path

import torch

from diffusion_perception_ros.checkpoint import check_parts
from diffusion_perception_ros.evaluation.datasets import Scenes
from diffusion_perception_ros.evaluation.samples import Sample
from diffusion_perception_ros.evaluation.sheets.drawing import Picture
from diffusion_perception_ros.model.flops import transformer_flops
from diffusion_perception_ros.model.transformer import DiTMoETransformer, cast
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.training.balance import LoadBalance
from diffusion_perception_ros.training.cache import VALIDATION_SEED
from diffusion_perception_ros.training.generalist_config import GeneralistConfig
from diffusion_perception_ros.training.initialize import make_codec, make_transformer
from diffusion_perception_ros.training.lookup import Offsets
from diffusion_perception_ros.training.noise import NoiseSchedule
from diffusion_perception_ros.training.sheet import held_out_sheet
from diffusion_perception_ros.training.stage import LossFunction, Stage
from diffusion_perception_ros.training.step import Losses
from diffusion_perception_ros.training.validation import badness, columns, validate

_SHEET_SCENES = 8


class GeneralistStage(Stage[DiTMoETransformer]):
    """The transformer.

    Args:
        config: Of the run.
        device: Of everything but the network, which a run places.

    Raises:
        InputError: The sizes in the configuration do not fit each other, or a folder that it names cannot be used.
    """

    def __init__(self, config: GeneralistConfig, device: torch.device) -> None:
        super().__init__(config)
        self.config = config
        self.device = device
        self.codec = make_codec(config).to(device)
        self.network = make_transformer(config, self.codec)
        check_parts(self.network, self.codec, config.metadata())

    def sample_flops(self) -> int:
        """See ``Stage``."""
        return transformer_flops(self.network)

    def losses(self) -> LossFunction:
        """See ``Stage``."""
        schedule = NoiseSchedule(self.config.diffusion, self.device)
        return Losses(self.config, self.codec, schedule, LoadBalance(self.network), Offsets(self.network))

    def validate(self, average: DiTMoETransformer) -> tuple[float, dict[str, float]]:
        """See ``Stage``; metrics are under names such as ``abs_rel_4`` for 4 steps."""
        pipe = self._pipeline(average)
        metrics = [(steps, validate(pipe, self.held_out, steps)) for steps in self.config.report.inference_steps]
        return badness(metrics[0][1]), columns(metrics)

    def draw(self, average: DiTMoETransformer, step: int) -> Picture:
        """See ``Stage``."""
        return held_out_sheet(self._pipeline(average), self._samples, step)

    @cached_property
    def _samples(self) -> list[Sample]:
        """The first of the held-out scenes, as evaluation knows them."""
        count = min(_SHEET_SCENES, self.config.report.validation_scenes)
        return list(Scenes(count, VALIDATION_SEED, self.config.resolution, self.config.resolution))

    def save(self, average: DiTMoETransformer, folder: Path) -> None:
        """See ``Stage``: a checkpoint folder for ``PerceptionPipeline.from_pretrained``."""
        half = copy.deepcopy(average)
        cast(half, torch.float16)
        self._pipeline(half).save_pretrained(folder)

    def _pipeline(self, transformer: DiTMoETransformer) -> PerceptionPipeline:
        """The weights as users get them."""
        return PerceptionPipeline(
            transformer, self.codec, self.config.diffusion.scheduler_config(), self.config.metadata()
        )
