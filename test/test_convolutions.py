"""The convolutions around the transformer."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from diffusion_perception_ros.model.convolutions import Correlation, Lookup, local_products, sample
from diffusion_perception_ros.model.random import random_transformer


def by_hand(one: Tensor, other: Tensor, radius: int) -> Tensor:
    """Place by place and displacement by displacement."""
    height, width = one.shape[-2:]
    window = 2 * radius + 1
    products = torch.zeros(len(one), window**2, height, width)
    for y, x, dy, dx in product(range(height), range(width), *[range(-radius, radius + 1)] * 2):
        if 0 <= y + dy < height and 0 <= x + dx < width:
            place = (dy + radius) * window + dx + radius
            products[:, place, y, x] = (one[:, :, y, x] * other[:, :, y + dy, x + dx]).mean(dim=1)
    return products


@pytest.mark.parametrize("radius", [1, 2])
def test_products_for_every_displacement(radius: int) -> None:
    one, other = torch.randn(2, 2, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(local_products(one, other, radius), by_hand(one, other, radius))


def test_gradients_of_the_products() -> None:
    """Views of one product overlap in memory, which autograd has to get right."""
    pair = torch.randn(2, 1, 2, 3, 4, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: local_products(x[0], x[1], 1), pair.requires_grad_())


@torch.no_grad()
def test_a_moved_image_matches_best_where_it_went() -> None:
    """Before anything is learned, in spite of other brightness and contrast, at both resolutions."""
    torch.manual_seed(0)
    correlation = Correlation(4, 16, 2, [25, 25])
    for conv_out in correlation.conv_out:
        assert isinstance(conv_out, torch.nn.Conv2d)
        conv_out.weight.copy_(torch.eye(25)[..., None, None])
        assert conv_out.bias is not None
        conv_out.bias.zero_()
    image = torch.randn(1, 4, 24, 24)
    (fine, coarse), _ = correlation(image, image.roll((2, -2), dims=(2, 3)) * 0.7 + 0.2)  # down and to the left
    assert fine.shape == (1, 25, 24, 24)
    assert coarse.shape == (1, 25, 12, 12)
    assert int(fine[0, :, 6:18, 6:18].mean(dim=(1, 2)).argmax()) == (2 + 2) * 5 + (2 - 2)
    assert int(coarse[0, :, 3:9, 3:9].mean(dim=(1, 2)).argmax()) == (2 + 1) * 5 + (2 - 1)


def test_sampling_beside_each_place() -> None:
    features = torch.arange(20.0).view(1, 1, 4, 5)
    offset = torch.tensor([0.5, 1.0]).view(1, 2, 1, 1).expand(1, 2, 4, 5)  # between two columns, a row below
    sampled = sample(features, offset)[0, 0]
    torch.testing.assert_close(sampled[:3, :4], features[0, 0, 1:, :4] + 0.5)
    assert sampled[3].eq(0).all()  # beyond the edge
    torch.testing.assert_close(sample(features, torch.zeros(1, 2, 4, 5)), features)


@torch.no_grad()
def test_a_lookup_matches_best_where_the_image_went() -> None:
    """Far outside the window around each place itself, once it is known about where."""
    torch.manual_seed(0)
    lookup = Lookup(8, 1)
    lookup.offset.weight.zero_()
    assert lookup.offset.bias is not None
    lookup.offset.bias.copy_(torch.tensor([-6.0, 5.0]))
    lookup.conv_out.weight.zero_()
    assert lookup.conv_out.bias is not None
    lookup.conv_out.bias.zero_()
    lookup.conv_out.weight[:8, :8] = torch.eye(8)[..., None, None]
    one = torch.randn(1, 16, 24, 24)
    other = one.roll((5 + 1, -6), dims=(2, 3))  # a pixel further down than believed
    matches = lookup(torch.zeros(1, 8, 24, 24), one, other)[0, :, 2:16, 8:22].mean(dim=(1, 2))
    assert int(matches.argmax()) == 2 * 3 + 1
    assert matches.max() > 0.9


@pytest.mark.parametrize("lookup_radius", [0, 2])
@pytest.mark.parametrize("stem_levels", [1, 2, 3])
@torch.no_grad()
def test_levels_halve_the_resolution_and_come_back(stem_levels: int, lookup_radius: int) -> None:
    network = random_transformer(
        sample_size=16, patch_size=4, in_channels=12, out_channels=4, hidden_size=32, num_layers=1,
        num_attention_heads=2, mlp_size=32, num_experts=2, stem_channels=8, stem_levels=stem_levels,
        correlation_radius=2, lookup_radius=lookup_radius,
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
