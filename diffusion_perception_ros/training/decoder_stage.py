"""Stage 3: a decoder of perception, for a checkpoint that stays as it is."""

from __future__ import annotations

import copy
import os
import shutil
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch

from diffusion_perception_ros.checkpoint import check_decoder
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.evaluation.datasets import Scenes
from diffusion_perception_ros.evaluation.samples import Sample
from diffusion_perception_ros.evaluation.sheets.drawing import Picture
from diffusion_perception_ros.model import folder as checkpoint_folder
from diffusion_perception_ros.model.decoders import FULL, FeatureDecoder, LatentDecoder, PerceptionDecoder, save_decoder
from diffusion_perception_ros.model.embeddings import Condition
from diffusion_perception_ros.model.flops import count_flops
from diffusion_perception_ros.model.transformer import Features, cast
from diffusion_perception_ros.pipeline import EMBEDDED, PerceptionPipeline
from diffusion_perception_ros.tasks import channels_needed, find_task
from diffusion_perception_ros.training.cache import VALIDATION_SEED
from diffusion_perception_ros.training.decoder_answers import Asking, DecoderNetwork
from diffusion_perception_ros.training.decoder_config import DecoderConfig
from diffusion_perception_ros.training.decoder_losses import DecoderLosses
from diffusion_perception_ros.training.lookup import Offsets
from diffusion_perception_ros.training.sheet import held_out_sheet
from diffusion_perception_ros.training.stage import LossFunction, Stage
from diffusion_perception_ros.training.validation import badness, validate

_SHEET_SCENES = 8


class DecoderStage(Stage[DecoderNetwork]):
    """The decoder.

    Args:
        config: Of the run.
        device: Of the checkpoint and, placed by a run, of the decoder.

    Raises:
        InputError: The checkpoint cannot be read, or is not for these tasks, this resolution or this decoder.
    """

    def __init__(self, config: DecoderConfig, device: torch.device) -> None:
        super().__init__(config)
        self.config = config
        self.folder = EMBEDDED if str(config.checkpoint) == "embedded" else config.checkpoint
        self.pipe = PerceptionPipeline.from_pretrained(self.folder, device, decoder=FULL)
        self._check_encodings()
        self.network = DecoderNetwork(self._make(), self.pipe.transformer)

    def sample_flops(self) -> int:
        """See ``Stage``."""
        decoder = copy.deepcopy(self.network.decoder).eval().to("meta")
        transformer, codec = self.pipe.transformer.config, self.pipe.codec
        side, width = transformer.sample_size, transformer.hidden_size
        with torch.device("meta"):
            label = torch.zeros(1, dtype=torch.long)
            condition, x = Condition(torch.empty(1, width)), torch.empty(1, transformer.in_channels, side, side)
            if not decoder.layers:
                return count_flops(decoder, label, x[:, : codec.latent_channels])
            flops, compared = 0, None
            if decoder.stem:
                flops = count_flops(decoder.stem, x, condition, label)
                stem, compared = decoder.stem(x, condition, label)
            else:
                widths = enumerate(decoder.config.stem_channels)
                stem = [torch.empty(1, channels, side >> level, side >> level) for level, channels in widths]
                if decoder.config.compared_channels:
                    compared = (torch.empty(1, decoder.config.compared_channels, side, side),) * 2
            tokens = [torch.empty(1, (side // transformer.patch_size) ** 2, width) for _ in decoder.layers]
            return flops + count_flops(decoder, label, Features(condition, tokens, stem, compared))

    def losses(self) -> LossFunction:
        """See ``Stage``."""
        return DecoderLosses(self.config, Asking(self.config, self.pipe), Offsets(self.network))

    def validate(self, average: DecoderNetwork) -> tuple[float, dict[str, float]]:
        """See ``Stage``: metrics of one step, beside those of the codec's decoder under names such as ``full_epe``."""
        metrics = validate(self._pipeline(average.decoder), self.held_out, 1)
        return badness(metrics), {**metrics, **{f"full_{name}": value for name, value in self._full.items()}}

    @cached_property
    def _full(self) -> dict[str, float]:
        return validate(self.pipe, self.held_out, 1)

    def draw(self, average: DecoderNetwork, step: int) -> Picture:
        """See ``Stage``."""
        count = min(_SHEET_SCENES, self.config.report.validation_scenes)
        side = self.config.resolution
        samples: list[Sample] = list(Scenes(count, VALIDATION_SEED, side, side))
        return held_out_sheet(self._pipeline(average.decoder), samples, step)

    def save(self, average: DecoderNetwork, folder: Path) -> None:
        """See ``Stage``: the checkpoint with the decoder in it, for ``PerceptionPipeline.from_pretrained``."""
        notes = shutil.ignore_patterns("*.md", "*.csv")
        shutil.copytree(self.folder, folder, ignore=notes, copy_function=_link, dirs_exist_ok=True)
        half = copy.deepcopy(average.decoder)
        cast(half, torch.float16)
        # A file that is linked is the checkpoint's own.
        shutil.rmtree(folder / "decoders" / half.name, ignore_errors=True)
        save_decoder(folder, half)
        if self.config.default:
            checkpoint_folder.save_metadata(folder, replace(self.pipe.metadata, decoder=half.name))

    def _pipeline(self, decoder: PerceptionDecoder) -> PerceptionPipeline:
        """The checkpoint with the decoder, under the run's name."""
        pipe = self.pipe
        metadata = replace(pipe.metadata, name=self.config.name, num_inference_steps=1)
        return PerceptionPipeline(pipe.transformer, pipe.codec, pipe.scheduler_config, metadata, decoder)

    def _make(self) -> PerceptionDecoder:
        """With random weights, by the seed."""
        config, pipe = self.config, self.pipe
        head = config.decoder
        common = {
            "tasks": {name: list(task.labels) for name, task in config.tasks.items()},
            "channels": head.channels,
            "out_channels": max(channels_needed(name, task.encoding()) for name, task in config.tasks.items()),
        }
        kind: type[PerceptionDecoder] = FeatureDecoder if head.kind == "features" else LatentDecoder
        if head.kind == "features":
            names = [name for name in config.tasks if "next_image" in find_task(name).requires]
            own = {
                "layers": list(head.layers),
                "lookup_radius": head.lookup_radius,
                "thin_stem": head.thin_stem,
                "correlation_radius": head.correlation_radius,
                "matched_labels": [label for name in names for label in config.tasks[name].labels],
            }
        else:
            own = {"blocks": head.blocks}
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(config.seed)
            try:
                decoder: PerceptionDecoder = kind(**common, **own, **kind.sizes(pipe.transformer, pipe.codec))
            except ValueError as error:
                raise InputError(f"decoder: {error}.") from None
        check_decoder(decoder, pipe.transformer, pipe.codec, pipe.metadata)
        decoder.train()
        return decoder

    def _check_encodings(self) -> None:
        config, metadata = self.config, self.pipe.metadata
        if config.resolution != metadata.resolution:
            raise InputError(
                f"resolution is {config.resolution}, but {self.folder} has {metadata.resolution}; make them equal."
            )
        if config.metadata().flow_reference_size != metadata.flow_reference_size:
            raise InputError(
                f"flow_reference_size must be {list(metadata.flow_reference_size)}, which {self.folder} declares."
            )
        for name, task in config.tasks.items():
            if task.encoding() != metadata.tasks.get(name):
                raise InputError(
                    f"tasks.{name} is not what {self.folder} was trained for, {metadata.tasks.get(name)}; make it so."
                )


def _link(source: str, target: str) -> None:
    """A second name for weights, which are large and not changed in place; a copy of what is small."""
    if source.endswith(".safetensors"):
        try:
            os.link(source, target)
            return
        except OSError:  # on another file system
            pass
    shutil.copyfile(source, target)
