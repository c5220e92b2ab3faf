"""The convolutions around the transformer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffusion_perception_ros.model.convolutions import Correlation
from diffusion_perception_ros.model.random import random_transformer


def by_hand(correlation: Correlation, first: Tensor, second: Tensor) -> Tensor:
    """Place by place and displacement by displacement."""
    radius, (height, width) = correlation.radius, first.shape[-2:]

    def features(x: Tensor) -> Tensor:
        inner: Tensor = correlation.norm(correlation.conv(torch.nn.functional.silu(correlation.conv_in(x))))
        return inner

    one, other = features(first), features(second)
    matches = torch.zeros(len(first), (2 * radius + 1) ** 2, height, width)
    for y in range(height):
        for x in range(width):
            for i, dy in enumerate(range(-radius, radius + 1)):
                for j, dx in enumerate(range(-radius, radius + 1)):
                    if 0 <= y + dy < height and 0 <= x + dx < width:
                        product = (one[:, :, y, x] * other[:, :, y + dy, x + dx]).mean(dim=1)
                        matches[:, i * (2 * radius + 1) + j, y, x] = product
    out: Tensor = correlation.conv_out(matches)
    return out


@pytest.mark.parametrize("radius", [1, 2])
@torch.no_grad()
def test_correlation_is_the_product_for_every_displacement(radius: int) -> None:
    torch.manual_seed(0)
    correlation = Correlation(3, 8, radius, 16)
    first, second = torch.randn(2, 2, 3, 6, 5)
    want = by_hand(correlation, first, second)
    torch.testing.assert_close(correlation(first, second), want, rtol=1e-5, atol=1e-5)


def test_gradients_of_the_correlation() -> None:
    """Views of one product overlap in memory, which autograd has to get right."""
    torch.manual_seed(0)
    correlation = Correlation(2, 8, 1, 8).double()
    frames = torch.randn(2, 1, 2, 3, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: correlation(x[0], x[1]), frames)


def test_a_moved_image_matches_best_where_it_went() -> None:
    torch.manual_seed(0)
    correlation = Correlation(4, 16, 2, 8)
    with torch.no_grad():
        correlation.conv_out.weight.zero_()
        correlation.conv_out.weight[0, :, 0, 0] = 0
        frame = torch.randn(1, 4, 12, 12)
        moved = frame.roll((1, -2), dims=(2, 3))  # one down, two to the left
        best = []
        for place in range(25):
            correlation.conv_out.weight[0].zero_()
            correlation.conv_out.weight[0, place] = 1
            best.append(correlation(frame, moved)[0, 0, 4:8, 4:8].mean())
    assert int(torch.stack(best).argmax()) == (1 + 2) * 5 + (-2 + 2)


@pytest.mark.parametrize("stem_levels", [1, 2, 3])
@torch.no_grad()
def test_levels_halve_the_resolution_and_come_back(stem_levels: int) -> None:
    network = random_transformer(
        sample_size=16, patch_size=4, in_channels=12, out_channels=4, hidden_size=32, num_layers=1,
        num_attention_heads=2, mlp_size=32, num_experts=2, stem_channels=8, stem_levels=stem_levels,
        correlation_radius=2,
    )  # fmt: skip
    torch.manual_seed(0)
    latents, timestep, labels = torch.randn(2, 12, 16, 16), torch.tensor([500]), torch.tensor([1000, 1002])
    out = network(latents, timestep, labels).sample
    assert out.shape == (2, 4, 16, 16)
    assert network.token_size == 4 // 2 ** (stem_levels - 1)
    changed = latents.clone()
    changed[0, 4:8, 8, 8] += 1  # the prompt: seen by the convolutions alone and by the transformer
    difference = (network(changed, timestep, labels).sample - out).abs().amax(dim=1)
    assert difference[0, 8, 8] > 1e-3
    assert difference[0, 0, 0] > 0
    assert difference[1].max() < 1e-5
