"""What a stage computes and moves, beside what the device can do (Williams, Waterman & Patterson 2009)."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from diffusion_perception_ros.benchmarking.models import networks
from diffusion_perception_ros.model.codec import ImageCodec
from diffusion_perception_ros.model.flops import count_flops, dense_equivalent, meta_inputs, transformer_flops
from diffusion_perception_ros.model.linear import linear
from diffusion_perception_ros.model.transformer import DiTMoETransformer
from diffusion_perception_ros.pipeline import PerceptionPipeline


@dataclass(frozen=True)
class Peaks:
    """What the device reached in the two things that bound a network.

    Attributes:
        flops: Floating-point operations a second of a matrix product.
        bytes: A second, read and written, of a copy.
    """

    flops: float
    bytes: float

    def best(self, other: Peaks | None) -> Peaks:
        """The higher of each."""
        return self if other is None else Peaks(max(self.flops, other.flops), max(self.bytes, other.bytes))


@dataclass(frozen=True)
class Work:
    """Of one stage for one frame.

    Attributes:
        flops: Floating-point operations of matrix products and convolutions.
        bytes: Inputs and outputs of these, and the weights once: as if all between them were fused.
    """

    flops: float
    bytes: float

    def fastest(self, peaks: Peaks) -> float:
        """Milliseconds that the device cannot be faster than."""
        return 1e3 * max(self.flops / peaks.flops, self.bytes / peaks.bytes)

    def bound(self, peaks: Peaks) -> str:
        """What it is bound by: ``compute`` or ``memory``."""
        return "compute" if self.flops / peaks.flops >= self.bytes / peaks.bytes else "memory"


def measure_peaks(device: torch.device, dtype: torch.dtype, seconds: float = 0.5) -> Peaks:
    """The best of as many repetitions as fit into the time, of a square matrix product and of a copy."""
    is_cuda = device.type == "cuda"
    # On a CPU so small that some repetition is not interrupted by what else runs there.
    side = 8192 if is_cuda else 768
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    source = torch.ones(2**27 if is_cuda else 2**24, device=device)
    target = torch.empty_like(source)
    # Of the libraries that a product may come from, whichever is faster.
    product = min(_fastest(lambda: a @ b, device, seconds), _fastest(lambda: linear(a, b), device, seconds))
    copied = _fastest(lambda: target.copy_(source), device, seconds)
    return Peaks(2 * side**3 / product, 2 * source.nbytes / copied)


def _fastest(work: Callable[[], Tensor], device: torch.device, seconds: float) -> float:
    """Seconds of the fastest repetition."""
    work()
    best, began = float("inf"), time.perf_counter()
    while best == float("inf") or time.perf_counter() - began < seconds:
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            end.record()
            end.synchronize()
            best = min(best, start.elapsed_time(end) / 1e3)
        else:
            start_time = time.perf_counter()
            work()
            best = min(best, time.perf_counter() - start_time)
    return best


def stage_work(pipe: PerceptionPipeline, pictures: int, samples: int, steps: int) -> dict[str, Work]:
    """What one frame takes.

    Args:
        pipe: The pipeline.
        pictures: That are encoded.
        samples: Answers of the network, which are decoded, too.
        steps: Denoising steps.
    """
    size = torch.finfo(pipe.dtype).bits // 8
    resolution, latent = pipe.metadata.resolution, pipe.metadata.resolution // pipe.codec.downscale
    codec = _on_meta(pipe.codec)

    def of_codec(part: Callable[[Tensor], Tensor], weights: Sequence[Tensor], shape: Sequence[int], count: int) -> Work:
        one, two = (torch.empty(batch, *shape, dtype=pipe.dtype, device="meta") for batch in (1, 2))
        moved = _count_elements(part, two) - _count_elements(part, one)
        return Work(count * count_flops(part, one), size * (sum(weight.numel() for weight in weights) + count * moved))

    encoder, decoder = (_weights(codec, "encoder"), _weights(codec, "decoder"))
    return {
        "encode": of_codec(codec.encode, encoder, (3, resolution, resolution), pictures),
        "denoise": transformer_work(pipe.transformer, samples, steps, size),
        "decode": of_codec(codec.decode, decoder, (pipe.codec.latent_channels, latent, latent), samples),
    }


def transformer_work(transformer: DiTMoETransformer, samples: int, steps: int, size: int) -> Work:
    """Of all steps; all experts' weights are read, since among many tokens each is somebody's choice.

    Args:
        transformer: The network.
        samples: In one batch.
        steps: Denoising steps.
        size: Bytes of a number.
    """
    dense = dense_equivalent(transformer)
    one, two = (_count_elements(dense, *meta_inputs(transformer, batch)) for batch in (1, 2))
    weights = sum(p.numel() for name, p in transformer.named_parameters() if "embedding_table" not in name)
    flops = samples * transformer_flops(transformer)
    return Work(steps * flops, steps * size * (weights + samples * (two - one)))


def _weights(codec: ImageCodec, part: str) -> list[Tensor]:
    return [p for network in networks(codec) for name, p in network.named_parameters() if name.startswith(part)]


def _on_meta(codec: ImageCodec) -> ImageCodec:
    return copy.deepcopy(codec).to(torch.device("meta"))


def _count_elements(network: Callable[..., Any], *inputs: Tensor) -> int:
    counter = _ElementCounter()  # type: ignore[no-untyped-call]
    with torch.no_grad(), counter:
        network(*inputs)
    return counter.elements


class _ElementCounter(TorchDispatchMode):
    """Numbers that go into and come out of linear layers and convolutions.

    Batched products, those of attention, are not among them: fused attention keeps its scores to itself, and what goes
    in and comes out was counted at the linear layers around it.
    """

    _COUNTED = (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.convolution)

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in self._COUNTED:
            self.elements += out.numel() + sum(x.numel() for x in args if isinstance(x, Tensor))
        return out
