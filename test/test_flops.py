"""The arithmetic of a forward pass."""

from __future__ import annotations

import pytest
import torch
from conftest import SMALL

from diffusion_perception_ros.model.flops import transformer_flops
from diffusion_perception_ros.model.random import random_transformer
from diffusion_perception_ros.model.transformer import DiTMoETransformer


def test_a_dense_transformer_by_hand() -> None:
    transformer = random_transformer(sample_size=8, **{**SMALL, "num_experts": 0, "mlp_size": 96})
    tokens, width, layers, mlp = 16, 32, 2, 96
    patches = tokens * 4 * (12 + 8) * width
    block = tokens * (4 * width**2 + 2 * width * mlp) + 2 * tokens**2 * width + 6 * width**2
    condition = 256 * width + width**2 + 2 * width**2
    assert transformer_flops(transformer) == 2 * (patches + layers * block + condition)


def test_the_released_generalist() -> None:
    """829 GMAC a forward pass: 20 x 1152^2 of weights and 2 x 1024 x 1152 of attention for each token and block."""
    with torch.device("meta"):
        transformer = DiTMoETransformer()
    assert transformer_flops(transformer) / 2e9 == pytest.approx(829, abs=0.5)


def test_experts_count_as_often_as_they_are_chosen() -> None:
    one, two = (transformer_flops(random_transformer(**SMALL, num_experts_per_tok=k)) for k in (1, 2))
    tokens, layers = 32**2, SMALL["num_layers"]
    assert two - one == 2 * layers * tokens * 2 * SMALL["hidden_size"] * SMALL["mlp_size"]
