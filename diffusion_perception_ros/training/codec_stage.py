"""Stage 1: an image codec, for what the tasks of stage 2 will put through it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from diffusion_perception_ros.evaluation.sheets.drawing import Picture
from diffusion_perception_ros.model.codec import AutoencoderCodec
from diffusion_perception_ros.model.flops import count_flops
from diffusion_perception_ros.model.folder import share
from diffusion_perception_ros.model.transformer import cast
from diffusion_perception_ros.training.batches import ask
from diffusion_perception_ros.training.codec_config import CodecConfig
from diffusion_perception_ros.training.codec_losses import CodecLosses
from diffusion_perception_ros.training.codec_metrics import mean_absolute_error, psnr
from diffusion_perception_ros.training.codec_network import CodecNetwork, make_network
from diffusion_perception_ros.training.codec_pictures import codec_pictures
from diffusion_perception_ros.training.codec_sheet import codec_sheet
from diffusion_perception_ros.training.data_config import SOURCES
from diffusion_perception_ros.training.sources_scenes import scene_frames
from diffusion_perception_ros.training.stage import LossFunction, Stage

# Scenes whose pictures are coded at once.
_PORTION = 4


class CodecStage(Stage[CodecNetwork]):
    """The image codec.

    Args:
        config: Of the run.
        device: Of the network, which a run places there.
    """

    def __init__(self, config: CodecConfig, device: torch.device) -> None:
        super().__init__(config)
        self.config = config
        self.device = device
        self.network = make_network(config)

    def sample_flops(self) -> int:
        """See ``Stage``; a sample is a picture."""
        side = self.config.resolution
        return count_flops(copy.deepcopy(self.network).to("meta"), torch.empty(1, 3, side, side, device="meta"))

    def losses(self) -> LossFunction:
        """See ``Stage``."""
        return CodecLosses(self.config)

    @torch.no_grad()
    def validate(self, average: CodecNetwork) -> tuple[float, dict[str, float]]:
        """See ``Stage``: means over the pictures of each kind; what counts is the mean of their absolute errors."""
        codec = self.codec(average)
        values: dict[str, list[Tensor]] = {}
        for pictures in self._held_out_pictures():
            for kind, images in pictures.items():
                reconstructions = codec.decode(codec.encode(images))
                values.setdefault(f"l1_{kind}", []).append(mean_absolute_error(reconstructions, images))
                values.setdefault(f"psnr_{kind}", []).append(psnr(reconstructions, images))
        metrics = {name: float(torch.cat(parts).mean()) for name, parts in sorted(values.items())}
        errors = [value for name, value in metrics.items() if name.startswith("l1_")]
        return sum(errors) / len(errors), metrics

    @torch.no_grad()
    def draw(self, average: CodecNetwork, step: int) -> Picture:
        """See ``Stage``."""
        codec = self.codec(average)
        pictures = next(self._held_out_pictures())
        scenes = len(pictures["image"])
        inputs = {kind: x.unflatten(0, (scenes, -1)) for kind, x in pictures.items() if kind != "ones"}
        outputs = {kind: codec.decode(codec.encode(x.flatten(0, 1))).view_as(x) for kind, x in inputs.items()}
        columns = {kind: [""] for kind in inputs}
        for name, task in self.config.tasks.items():
            if name in inputs and len(task.labels) > 1:
                columns[name] = [f"label {label}" for label in task.labels]
        sizes = self.config.codec
        notes = [
            f"{scenes} scenes that no step draws, {self.config.resolution}x{self.config.resolution} pixels: "
            f"above what goes in, below what comes out   |   averaged weights   |   "
            f"{sizes.kind}, {sizes.latent_channels} channels for {sizes.downscale}x{sizes.downscale} pixels"
        ]
        return codec_sheet(f"{self.config.name} at step {step}", notes, columns, inputs, outputs)

    @torch.no_grad()
    def save(self, average: CodecNetwork, folder: Path) -> None:
        """See ``Stage``: a folder for ``model.codec`` of stage 2, whose latents have unit variance.

        The variance is that of all held-out pictures together (Rombach et al. 2022, arXiv 2112.10752).
        """
        encode = self.codec(average).encode
        latents = [encode(torch.cat(list(pictures.values()))).flatten() for pictures in self._held_out_pictures()]
        vae = copy.deepcopy(average.vae)
        cast(vae, torch.float16)
        vae.register_to_config(scaling_factor=float(1 / torch.cat(latents).std()))
        AutoencoderCodec(vae).save(folder / "vae")
        share(folder)

    @staticmethod
    def codec(network: CodecNetwork) -> AutoencoderCodec:
        """The network as users get it."""
        return AutoencoderCodec(network.vae)

    def _held_out_pictures(self) -> Iterator[dict[str, Tensor]]:
        """By kind, a few scenes at a time; without what scenes do not know the truth of."""
        tasks = [name for name, fields in self.config.truths().items() if fields <= SOURCES["scenes"]]
        for start in range(0, len(self.held_out), _PORTION):
            frames = scene_frames(self.held_out[start : start + _PORTION], self.device)
            pictures = codec_pictures(self.config, [ask(self.config, name, frames) for name in tasks])
            # Every task sees the same.
            yield {**pictures, "image": frames.image * 2 - 1}
