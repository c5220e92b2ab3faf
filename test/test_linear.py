"""Linear layers by oneDNN against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from diffusion_perception_ros.model import linear as module
from diffusion_perception_ros.model.linear import Linear, linear


@pytest.mark.parametrize("shape", [(7, 12), (2, 5, 12), (0, 12), (2, 3, 4, 12)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_the_same_for_all_shapes(shape: tuple[int, ...], with_bias: bool) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(shape), torch.randn(20, 12), torch.randn(20) if with_bias else None
    want = F.linear(x, weight, bias)
    torch.testing.assert_close(linear(x, weight, bias), want)


@pytest.mark.skipif(not module._has_one_dnn, reason="this PyTorch has no oneDNN")
def test_one_dnn_takes_float32_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows no gradients, and half precision gets there by PyTorch itself."""
    taken: list[torch.dtype] = []

    def record(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        taken.append(x.dtype)
        return F.linear(x, weight, bias)

    monkeypatch.setattr(module, "_one_dnn", record)
    layer, x = Linear(4, 4), torch.randn(3, 4)
    assert layer(x).requires_grad
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert layer(x).dtype == torch.bfloat16
    Linear(4, 4).bfloat16().requires_grad_(False)(x.bfloat16())
    assert taken == []
    with torch.no_grad():
        layer(x)
    layer.requires_grad_(False)(x)
    assert taken == [torch.float32] * 2
    layer(torch.randn(4, 4).T)  # for which it would be slow
    assert len(taken) == 2
