"""Networks through torch.compile: kernels fused, and on CUDA everything replayed as one graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_perception_ros.model.codec import AutoencoderCodec, ImageCodec
from diffusion_perception_ros.model.dispatch import choose_dispatch
from diffusion_perception_ros.model.experts import MixtureOfExperts
from diffusion_perception_ros.model.folder import first_line
from diffusion_perception_ros.model.graphs import Graphed
from diffusion_perception_ros.model.transformer import DiTMoETransformer, TransformerOutput

# Of two ways to walk through a tensor the compiler takes the one that it finds faster when the GPU is cold, and for
# the experts' rows it finds one that takes twice as long as the other; without looking it takes the other.
_OPTIONS: dict[str, bool | int | str | Callable[..., Any]] = {"triton.autotune_pointwise": False}


def compile_transformer(transformer: DiTMoETransformer, batch_sizes: Sequence[int], backend: str = "inductor") -> None:
    """Compile in place, and warm up; where the compiler fails, warn in one sentence and leave it as it was.

    Args:
        transformer: On its device.
        batch_sizes: Numbers of samples to warm up with; each is compiled for itself, so that shapes are constants.
        backend: Of ``torch.compile``.
    """
    on_cuda = transformer.pos_embed.device.type == "cuda"
    compiled = (_blocks if on_cuda else _whole)(transformer, backend)
    try:
        for batch_size in batch_sizes:
            _warm_up(transformer, batch_size)
    except Exception as error:  # compilers fail in all ways
        modules: list[nn.Module] = [transformer, *compiled]
        for module in modules:
            vars(module).pop("forward", None)
            module._compiled_call_impl = None
        transformer.modulates_ahead = True
        warnings.warn(f"the transformer runs uncompiled: {first_line(error)}.", stacklevel=3)


def _blocks(transformer: DiTMoETransformer, backend: str) -> list[nn.Module]:
    """The blocks, which are alike, so that one of them is compiled for all; around them one graph of kernels."""
    for module in transformer.modules():
        if isinstance(module, MixtureOfExperts):  # which the compiler need not ask the device for
            module.dispatch = module.dispatch or choose_dispatch(transformer.pos_embed, module.experts)
    blocks: list[nn.Module] = list(transformer.blocks)
    for block in blocks:
        block.compile(backend=backend, dynamic=False, options=_OPTIONS if backend == "inductor" else None)
    forward = type(transformer).forward

    def sample(hidden_states: Tensor, timestep: Tensor, class_labels: Tensor) -> Tensor:
        out: Tensor = forward(transformer, hidden_states, timestep, class_labels).sample
        return out

    graphed = Graphed(sample)

    def replayed(hidden_states: Tensor, timestep: Tensor, class_labels: Tensor, _: None = None) -> TransformerOutput:
        return TransformerOutput(sample=graphed(hidden_states, timestep.reshape(-1), class_labels))

    transformer.forward = replayed  # type: ignore[assignment,method-assign]
    # To read the modulations' weights in each step takes less time than to copy what was made of them into the graph.
    transformer.modulates_ahead = False
    return blocks


def _whole(transformer: DiTMoETransformer, backend: str) -> list[nn.Module]:
    """Everything but the experts: they ask which tokens each has, which no fixed graph can."""
    compiled: Any = torch.compile(transformer.forward, backend=backend, dynamic=False)
    closed: list[nn.Module] = [module for module in transformer.modules() if isinstance(module, MixtureOfExperts)]
    for module in closed:
        module.forward = torch.compiler.disable(module.forward)

    def forward(*inputs: Any) -> TransformerOutput:
        return TransformerOutput(sample=compiled(*inputs).sample)

    transformer.forward = forward  # type: ignore[assignment,method-assign]
    return closed


def compile_codec(codec: ImageCodec, device: torch.device, backend: str = "inductor") -> None:
    """Likewise the networks of a codec on CUDA, each size when it first comes; on a CPU it stays as it is.

    Args:
        codec: On the device; changed in place.
        device: Where it is.
        backend: Of ``torch.compile``.
    """
    if device.type != "cuda" or not isinstance(codec, AutoencoderCodec):
        return
    codec.vae.to(memory_format=torch.channels_last)  # compiled norms keep it
    for part in (codec.vae.encoder, codec.vae.decoder):
        part.compile(backend=backend, dynamic=False)
    encode: Callable[..., Tensor] = Graphed(codec.encode)
    decode: Callable[..., Tensor] = Graphed(codec.decode)
    codec.encode, codec.decode = encode, decode  # type: ignore[method-assign]


@torch.inference_mode()
def _warm_up(transformer: DiTMoETransformer, batch_size: int) -> None:
    config, like = transformer.config, transformer.pos_embed
    latents = like.new_zeros(batch_size, config.in_channels, config.sample_size, config.sample_size)
    timestep = torch.zeros(1, dtype=torch.long, device=like.device)
    labels = torch.zeros(batch_size, dtype=torch.long, device=like.device)
    modulations = transformer.modulations(timestep[:, None], labels).step(0) if transformer.modulates_ahead else None
    for _ in range(2):
        transformer(latents, timestep[0], labels, modulations)
