"""The pipelines of one checkpoint at one resolution: in several types, with several codecs, as ours and as released."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from diffusion_perception_ros.benchmarking.configuration import Model, random_sizes
from diffusion_perception_ros.benchmarking.random_generalist import random_generalist
from diffusion_perception_ros.benchmarking.released import ReleasedPipeline
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.codec import AutoencoderCodec, ImageCodec
from diffusion_perception_ros.model.compile import compile_codec, compile_transformer
from diffusion_perception_ros.model.decoders import PerceptionDecoder, load_decoder
from diffusion_perception_ros.model.folder import load_codec
from diffusion_perception_ros.model.metadata import CheckpointMetadata
from diffusion_perception_ros.model.random import SCHEDULER_CONFIG, random_codec
from diffusion_perception_ros.model.transformer import DiTMoETransformer, cast
from diffusion_perception_ros.pipeline import EMBEDDED, PerceptionPipeline
from diffusion_perception_ros.tasks import released_encodings

_Module = TypeVar("_Module", bound=nn.Module)

_RELEASED_RESOLUTION, _RELEASED_DOWNSCALE = 512, 8
# Wherever they are in memory at once, all have the same weights.
_FLOAT32 = "float32"


class Models:
    """Makes what is asked for when it is asked for.

    Args:
        checkpoint: See ``Configuration``.
        resolution: Likewise.
        dtypes: The types that will be asked for; the weights are loaded in the first, or in float32 if that is one.
        device: Where they run.

    Raises:
        InputError: The checkpoint is unusable.
    """

    def __init__(self, checkpoint: str, resolution: int | None, dtypes: Sequence[str], device: torch.device) -> None:
        self._device = device
        self._folder = EMBEDDED if checkpoint == "embedded" else Path(checkpoint)
        self._dtype = _FLOAT32 if _FLOAT32 in dtypes else dtypes[0]
        self._base = _load(checkpoint, resolution, getattr(torch, self._dtype), device)
        self._own = ("own", "kl") if self._base.metadata.is_random else ("own",)
        self._transformers = {(self._dtype, False): self._base.transformer}
        self._pipes: dict[Model, PerceptionPipeline] = {}
        self._released: dict[str, ReleasedPipeline] = {}

    @property
    def resolution(self) -> int:
        """Side of the network's square in pixels."""
        return self._base.metadata.resolution

    def pipeline(self, dtype: str, codec: str, compiled: bool, decoder: str) -> PerceptionPipeline:
        """As the product runs it.

        Raises:
            InputError: The codec does not fit the checkpoint, or it has no such decoder.
        """
        key = dtype, codec, compiled, decoder
        if key not in self._pipes:
            own = self._codec(codec, dtype)
            if compiled:
                own = copy.deepcopy(own)
                compile_codec(own, self._device)
            self._pipes[key] = PerceptionPipeline(
                self._transformer(dtype, compiled),
                own,
                self._base.scheduler_config,
                self._base.metadata,
                self._decoder(decoder, dtype, compiled),
            )
        return self._pipes[key]

    def released(self, codec: str) -> ReleasedPipeline:
        """The released way; of the codecs of Stable Diffusion's sizes it has the KL autoencoder alone.

        Raises:
            InputError: The codec does not fit the checkpoint.
        """
        codec = released_codec(codec)
        if codec not in self._released:
            own = copy.deepcopy(self._codec(codec, _FLOAT32))
            for network in networks(own):  # laid out in memory as diffusers loads it
                network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch's stub lacks it
            base = self._base
            pipe = PerceptionPipeline(base.transformer, own, base.scheduler_config, base.metadata)
            self._released[codec] = ReleasedPipeline(pipe, own)
        return self._released[codec]

    def _transformer(self, dtype: str, compiled: bool) -> DiTMoETransformer:
        key = dtype, compiled
        if key not in self._transformers:
            if compiled:
                transformer = sharing(self._transformer(dtype, False))
                compile_transformer(transformer, ())
            else:
                transformer = converted(self._base.transformer, getattr(torch, dtype))
            self._transformers[key] = transformer
        return self._transformers[key]

    def _decoder(self, name: str, dtype: str, compiled: bool) -> PerceptionDecoder | None:
        name = self._base.metadata.decoder if name == "own" else name
        decoder = load_decoder(self._folder, name, getattr(torch, dtype))
        if decoder is not None:
            decoder.to(self._device)
        if decoder is not None and compiled:
            decoder.compile()
        return decoder

    def _codec(self, name: str, dtype: str) -> ImageCodec:
        if name in self._own and dtype == self._dtype:
            return self._base.codec
        codec = copy.deepcopy(self._base.codec) if name in self._own else named_codec(name)
        for network in networks(codec):
            cast(network, getattr(torch, dtype))
        return codec.to(self._device)


def released_codec(codec: str) -> str:
    """What the released way uses in the place of a codec."""
    return "kl" if codec == "tiny" else codec


def named_codec(name: str) -> ImageCodec:
    """``kl`` and ``tiny`` as Stable Diffusion has them, with random weights; or the one of a folder. In float32.

    Raises:
        InputError: The folder holds none that can be read.
    """
    if name == "kl":
        return random_codec(channels=(128, 256, 512, 512), layers_per_block=2, norm_num_groups=32)
    if name == "tiny":
        from diffusers import AutoencoderTiny  # noqa: PLC0415  # see codec.py

        return AutoencoderCodec(AutoencoderTiny().eval().requires_grad_(False))
    return load_codec(Path(name), torch.float32)


def networks(codec: ImageCodec) -> list[nn.Module]:
    """What of a codec has weights."""
    return [part for part in vars(codec).values() if isinstance(part, nn.Module)]


def converted(transformer: DiTMoETransformer, dtype: torch.dtype) -> DiTMoETransformer:
    """A copy of another type."""
    transformer = copy.deepcopy(transformer)
    cast(transformer, dtype)
    return transformer


def sharing(module: _Module) -> _Module:
    """A copy with the same weights, whose parts can be compiled without the original's."""
    twin = copy.copy(module)
    twin._modules = {name: child and sharing(child) for name, child in module._modules.items()}
    return twin


def _load(checkpoint: str, resolution: int | None, dtype: torch.dtype, device: torch.device) -> PerceptionPipeline:
    sizes = random_sizes(checkpoint)
    if sizes is not None:
        resolution = resolution or _RELEASED_RESOLUTION
        sizes["sample_size"] = _latent_size(resolution, _RELEASED_DOWNSCALE, 2)
        metadata = CheckpointMetadata(
            resolution=resolution,
            tasks=released_encodings(1005),
            sampler="ddim_trailing",
            num_inference_steps=1,
            name=checkpoint,
            is_random=True,
        )
        codec = named_codec("kl")
        for network in networks(codec):
            cast(network, dtype)
        transformer = random_generalist(sizes, dtype, device)
        return PerceptionPipeline(transformer, codec.to(device), SCHEDULER_CONFIG, metadata)
    if checkpoint == "embedded":
        pipe = PerceptionPipeline.embedded(device, dtype)
    else:
        pipe = PerceptionPipeline.from_pretrained(Path(checkpoint), device, dtype)
    return pipe if resolution in (None, pipe.metadata.resolution) else _resized(pipe, resolution)


def _resized(pipe: PerceptionPipeline, resolution: int) -> PerceptionPipeline:
    """The same weights for another resolution, for which nobody trained them: of its times alone one can learn."""
    sizes: dict[str, Any] = {name: value for name, value in pipe.transformer.config.items() if name[0] != "_"}
    sizes["sample_size"] = _latent_size(resolution, pipe.codec.downscale, pipe.transformer.patch_size)
    transformer: DiTMoETransformer = DiTMoETransformer(**sizes)
    weights = {name: weight for name, weight in pipe.transformer.state_dict().items() if name != "pos_embed"}
    transformer.load_state_dict(weights, strict=False, assign=True)
    transformer.to(pipe.device)
    transformer.pos_embed = transformer.pos_embed.to(pipe.dtype)
    transformer.eval().requires_grad_(False)
    metadata = replace(pipe.metadata, resolution=resolution)
    return PerceptionPipeline(transformer, pipe.codec, pipe.scheduler_config, metadata)


def _latent_size(resolution: int, downscale: int, patch_size: int) -> int:
    if resolution % (downscale * patch_size):
        raise InputError(
            f"--resolution {resolution} does not divide by {downscale * patch_size}, the pixels of a token; choose "
            f"{round(resolution / (downscale * patch_size)) * downscale * patch_size or downscale * patch_size}."
        )
    return resolution // downscale
