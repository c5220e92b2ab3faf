"""Where a lookup looks is learned from the truth, and from nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from diffusion_perception_ros.model.convolutions import Lookup
from diffusion_perception_ros.model.random import random_transformer
from diffusion_perception_ros.training.lookup import Offsets, offset_loss

SIZE, LATENT = 16, 4


def asked(task: str, flow: torch.Tensor, valid: torch.Tensor) -> Any:
    return SimpleNamespace(task=task, truth=SimpleNamespace(flow=flow, flow_valid=valid))


def test_where_things_went_costs_nothing() -> None:
    """In pixels of the latent, of which each is four of the image; what is not known does not count."""
    flow = torch.full((2, 2, SIZE, SIZE), torch.nan)
    flow[0, :, :, :8] = torch.tensor([6.0, -2.0]).view(2, 1, 1)
    flow[1] = torch.tensor([-4.0, 8.0]).view(2, 1, 1)
    questions = asked("flow", flow, flow[:, 0].isfinite())
    offset = torch.tensor([[1.5, -0.5], [-1.0, 2.0]]).view(2, 1, 2, 1, 1).expand(-1, 2, -1, LATENT, LATENT)
    assert offset_loss(offset, questions).tolist() == pytest.approx([0, 0], abs=2e-3)
    wrong = offset + torch.tensor([3.0, 4.0]).view(2, 1, 1)
    assert offset_loss(wrong, questions).tolist() == pytest.approx([5, 5], abs=2e-3)
    assert offset_loss(offset, asked("flow", flow, torch.zeros(2, SIZE, SIZE, dtype=torch.bool))).tolist() == [0, 0]


def test_other_prompts_are_about_the_same_place() -> None:
    flow = torch.full((1, 2, SIZE, SIZE), 9.0)
    questions = asked("amodal", flow, torch.ones(1, SIZE, SIZE, dtype=torch.bool))
    assert offset_loss(torch.zeros(1, 1, 2, LATENT, LATENT), questions).item() == pytest.approx(0, abs=2e-3)
    assert offset_loss(torch.ones(1, 1, 2, LATENT, LATENT), questions).item() == pytest.approx(2**0.5, abs=2e-3)


def test_offsets_are_those_of_the_last_training_pass() -> None:
    network = random_transformer(
        sample_size=8, patch_size=4, in_channels=12, out_channels=4, hidden_size=32, num_layers=1,
        num_attention_heads=2, mlp_size=32, num_experts=2, stem_channels=8, correlation_radius=1, lookup_radius=1,
    )  # fmt: skip
    offsets = Offsets(network)
    assert offsets.take() is None
    latents, timestep, labels = torch.randn(2, 12, 8, 8), torch.tensor([500]), torch.tensor([1000, 1002])
    network.train().requires_grad_(True)
    output = network(latents, timestep, labels).sample
    offset = offsets.take()
    assert offset is not None
    assert offset.shape == (2, 2, 8, 8)
    assert offsets.take() is None
    (lookup,) = [module for module in network.modules() if isinstance(module, Lookup)]
    output.sum().backward(retain_graph=True)
    assert lookup.offset.weight.grad is None
    offset.sum().backward()
    assert lookup.offset.weight.grad is not None
    network.eval()
    network(latents, timestep, labels)
    assert offsets.take() is None
    assert Offsets(nn.Linear(1, 1)).take() is None
