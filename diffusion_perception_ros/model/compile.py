"""The transformer through torch.compile: kernels fused, and on CUDA a step replayed as one graph."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from diffusion_perception_ros.model.experts import MixtureOfExperts
from diffusion_perception_ros.model.folder import first_line
from diffusion_perception_ros.model.transformer import DiTMoETransformer, TransformerOutput


def compile_transformer(transformer: DiTMoETransformer, batch_sizes: Sequence[int], backend: str = "inductor") -> None:
    """Compile in place, and warm up; where the compiler fails, warn in one sentence and leave it as it was.

    Args:
        transformer: On its device.
        batch_sizes: Numbers of samples to warm up with; each is compiled for itself, so that shapes are constants.
        backend: Of ``torch.compile``.
    """
    on_cuda = transformer.pos_embed.device.type == "cuda"
    mode = "reduce-overhead" if on_cuda and backend == "inductor" else None  # which means CUDA graphs
    compiled: Any = torch.compile(transformer.forward, backend=backend, mode=mode, dynamic=False)
    closed: list[nn.Module] = []
    if not on_cuda:
        closed = [module for module in transformer.modules() if isinstance(module, MixtureOfExperts)]

    def forward(*inputs: Any) -> TransformerOutput:
        if on_cuda:
            torch.compiler.cudagraph_mark_step_begin()
        # A graph writes its output to the same place each time, and samplers keep those of earlier steps.
        return TransformerOutput(sample=compiled(*inputs).sample.clone())

    for module in closed:  # they ask which tokens each expert has, which no fixed graph can
        module.forward = torch.compiler.disable(module.forward)
    transformer.forward = forward  # type: ignore[assignment,method-assign]
    try:
        for batch_size in batch_sizes:
            _warm_up(transformer, batch_size)
    except Exception as error:  # compilers fail in all ways
        del transformer.forward
        for module in closed:
            del module.forward
        warnings.warn(f"the transformer runs uncompiled: {first_line(error)}.", stacklevel=3)


@torch.inference_mode()
def _warm_up(transformer: DiTMoETransformer, batch_size: int) -> None:
    """A few steps: CUDA graphs are recorded at the second."""
    config, like = transformer.config, transformer.pos_embed
    latents = like.new_zeros(batch_size, config.in_channels, config.sample_size, config.sample_size)
    timestep = torch.zeros(1, dtype=torch.long, device=like.device)
    labels = torch.zeros(batch_size, dtype=torch.long, device=like.device)
    modulations = transformer.modulations(timestep[:, None], labels)
    for _ in range(3):
        transformer(latents, timestep[0], labels, modulations.step(0))
