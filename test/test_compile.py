"""The compiled transformer, without a compiler: what is traced is run as it is."""

from __future__ import annotations

import pytest
import torch
from conftest import SMALL

from diffusion_perception_ros.model.compile import compile_transformer
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
