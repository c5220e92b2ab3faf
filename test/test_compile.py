"""The compiled transformer, without a compiler: what is traced is run as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import SMALL
from torch._dynamo.testing import CompileCounter

from diffusion_perception_ros.benchmarking.roofline import stage_work
from diffusion_perception_ros.model import compile as compiling
from diffusion_perception_ros.model import graphs
from diffusion_perception_ros.model.compile import compile_transformer
from diffusion_perception_ros.model.experts import MixtureOfExperts
from diffusion_perception_ros.model.random import random_transformer
from diffusion_perception_ros.pipeline import PerceptionPipeline


@torch.inference_mode()
def test_the_same_result() -> None:
    transformer = random_transformer(sample_size=8, **SMALL)
    inputs = torch.randn(2, 12, 8, 8), torch.tensor([500]), torch.tensor([1000, 1002])
    want = transformer(*inputs).sample
    compile_transformer(transformer, [2], backend="eager")
    assert "forward" in vars(transformer)
    got = transformer(*inputs).sample
    torch.testing.assert_close(got, want)
    again = transformer(inputs[0] + 1, *inputs[1:]).sample
    torch.testing.assert_close(got, want)  # not overwritten
    assert (again - want).abs().max() > 1e-3


def test_without_a_compiler_it_runs_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = PerceptionPipeline.random(64)

    def compiler_is_missing(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no C++ compiler\nmore about that")

    monkeypatch.setattr(torch, "compile", lambda *args, **kwargs: compiler_is_missing)
    with pytest.warns(UserWarning, match="the transformer runs uncompiled: no C[+][+] compiler[.]"):
        pipe.compile()
    latents = torch.zeros(1, 12, 8, 8)
    assert pipe.transformer(latents, torch.tensor([1]), torch.tensor([1000])).sample.isfinite().all()


class _NotRecorded:
    """What a graph does, where there is no GPU: the function is called anew, and its output does not change later."""

    def __init__(self, function: Callable[..., torch.Tensor], inputs: tuple[torch.Tensor, ...]) -> None:
        self.function = function

    def __call__(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return self.function(*inputs).clone()


def test_on_a_gpu_blocks_are_compiled_once_and_everything_around_them_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "_Recorded", _NotRecorded)
    monkeypatch.setattr(MixtureOfExperts, "dispatch", "grouped" if hasattr(F, "grouped_mm") else "tiled")
    pipe = PerceptionPipeline.random(64, num_layers=4, torch_dtype=torch.bfloat16)
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    want, work = pipe(image, tasks=["depth"], num_inference_steps=2), stage_work(pipe, 1, 1, 1)
    counter: Any = CompileCounter()
    monkeypatch.setattr(compiling, "_whole", compiling._blocks)
    compiling.compile_transformer(pipe.transformer, [1], backend=counter)
    compiling.compile_codec(pipe.codec, torch.device("cuda"), backend="eager")
    assert not pipe.transformer.modulates_ahead
    got = pipe(image, tasks=["depth"], num_inference_steps=2)
    assert got.depth_relative is not None
    assert want.depth_relative is not None
    np.testing.assert_allclose(got.depth_relative, want.depth_relative, atol=0.05)
    assert counter.frame_count == 1  # the blocks are alike
    copied = copy.deepcopy(pipe.codec).to(torch.device("meta"))
    assert copied.decode(torch.empty(1, copied.latent_channels, 8, 8, dtype=torch.bfloat16, device="meta")).is_meta
    assert stage_work(pipe, 1, 1, 1) == work


def test_each_size_is_recorded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[object] = []

    class Recorded(_NotRecorded):
        def __init__(self, function: Callable[..., torch.Tensor], inputs: tuple[torch.Tensor, ...]) -> None:
            super().__init__(function, inputs)
            recorded.append(tuple(inputs[0].shape))

    monkeypatch.setattr(graphs, "_Recorded", Recorded)
    double = graphs.Graphed(lambda x: 2 * x)
    for x in (torch.ones(2), torch.ones(3), torch.zeros(2)):
        assert torch.equal(double(x), 2 * x)
    assert recorded == [(2,), (3,)]
    assert double.__deepcopy__({})(torch.ones(1)).item() == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
def test_a_graph_does_what_the_function_does() -> None:
    """Inside and outside of inference mode, and what it gave stays."""
    weight = torch.randn(8, 8, device="cuda")
    product = graphs.Graphed(lambda x: x @ weight)
    inputs = [torch.randn(4, 8, device="cuda") for _ in range(3)]
    with torch.inference_mode():
        first = product(inputs[0])
    others = [product(x) for x in inputs[1:]]
    for x, y in zip(inputs, [first, *others], strict=True):
        torch.testing.assert_close(y, x @ weight)
