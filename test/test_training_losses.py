"""Noise, losses, load balancing and Muon."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SMALL
from diffusers import DDIMScheduler
from training_runs import tiny

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.evaluation.metrics import affine_invariant_depth_metrics
from diffusion_perception_ros.model.metadata import TargetEncoding
from diffusion_perception_ros.model.random import random_transformer
from diffusion_perception_ros.tasks import Target, Truth, find_task
from diffusion_perception_ros.training.balance import LoadBalance, load_balancing_loss
from diffusion_perception_ros.training.generalist_config import DiffusionConfig
from diffusion_perception_ros.training.losses import ImageLoss, diffusion_loss, find_image_loss
from diffusion_perception_ros.training.muon import Muon, orthogonalize
from diffusion_perception_ros.training.noise import NoiseSchedule, multi_resolution_noise
from diffusion_perception_ros.training.optimizer import make_optimizers

CPU = torch.device("cpu")


@pytest.mark.parametrize("prediction_type", ["sample", "v_prediction"])
def test_targets_are_what_samplers_expect(prediction_type: str) -> None:
    """A network that predicts the target exactly makes diffusers' scheduler return the clean latent."""
    config = DiffusionConfig(prediction_type)
    schedule = NoiseSchedule(config, CPU)
    clean, noise = torch.randn(2, 4, 3, 8, 8)
    scheduler = DDIMScheduler.from_config(config.scheduler_config())
    scheduler.set_timesteps(4)
    for t in scheduler.timesteps:
        timestep = t.expand(4)
        noisy = schedule.add_noise(clean, noise, timestep)
        target = schedule.target(clean, noise, timestep)
        torch.testing.assert_close(schedule.clean(target, noisy, timestep), clean, rtol=1e-4, atol=1e-4)
        estimate = scheduler.step(target, t, noisy).pred_original_sample
        torch.testing.assert_close(estimate, clean, rtol=1e-4, atol=1e-4)


def test_the_last_timestep_is_pure_noise() -> None:
    schedule = NoiseSchedule(DiffusionConfig(), CPU)
    clean, noise = torch.randn(2, 2, 3, 8, 8)
    assert torch.equal(schedule.add_noise(clean, noise, torch.tensor([schedule.last_timestep] * 2)), noise)


def test_multi_resolution_noise_is_coarse_and_of_unit_variance() -> None:
    rng = np.random.default_rng(0)
    white = torch.from_numpy(rng.standard_normal((400, 3, 32, 32), dtype=np.float32))
    strength = torch.cat([torch.zeros(200), torch.full((200,), 0.9)])
    noise = multi_resolution_noise(white, strength, rng)
    assert torch.equal(noise[:200], white[:200])
    assert noise[200:].std() == pytest.approx(1, abs=0.05)
    means = noise.mean(dim=(2, 3)).square()
    assert means[200:].mean() > 50 * means[:200].mean()


def truth_of(depth: torch.Tensor) -> Truth:
    nothing = torch.zeros(depth.shape, dtype=torch.bool)
    return Truth(depth, torch.zeros(len(depth), 2, *depth.shape[1:]), ~nothing, nothing, nothing)


def loss_of(kind: str) -> ImageLoss:
    return find_image_loss(TargetEncoding(kind, (1000,), parameters={"log_range": 3.0}))


@pytest.mark.parametrize(("kind", "labels"), [("affine", 1), ("displacement", 2), ("mask", 1)])
def test_image_losses(kind: str, labels: int) -> None:
    """Least for the truth, larger for what is further from it, blind where the truth is unknown."""
    torch.manual_seed(0)
    images = torch.rand(2, labels, 1, 8, 8).mul(2).sub(1).sign().expand(-1, -1, 3, -1, -1)
    valid = torch.rand(2, 8, 8) > 0.3
    truth = truth_of(torch.rand(2, 8, 8) + 1)
    loss = loss_of(kind)

    def of(prediction: torch.Tensor, known: torch.Tensor = valid) -> torch.Tensor:
        return loss(prediction, Target(images, known), truth)

    assert of(images).shape == (2,)
    assert of(images).max() < 0.2  # masks of -1 and 1 are nearly, not quite, certain
    assert (of(0.5 * images) > of(images)).all()
    assert (of(-images) > of(0.5 * images)).all()
    if kind != "mask":
        spoilt = torch.where(valid[:, None, None], images, -images)
        torch.testing.assert_close(of(spoilt), of(images))
        assert of(images, torch.zeros_like(valid)).tolist() == [0, 0]
    wrong = images.clone().requires_grad_()
    of(wrong * 0.3).sum().backward()
    assert wrong.grad is not None
    assert wrong.grad.isfinite().all()


def test_depth_errors_weigh_more_nearby() -> None:
    depth = torch.full((1, 8, 8), 10.0)
    depth[:, :2], depth[:, -1] = 2.0, torch.inf
    target = Target(torch.zeros(1, 1, 3, 8, 8), torch.ones(1, 8, 8, dtype=torch.bool))
    near, middle, sky = (torch.zeros(1, 1, 3, 8, 8) for _ in range(3))
    near[..., 0, :], middle[..., 4, :], sky[..., 7, :] = 1, 1, 1
    losses = [float(loss_of("affine")(x, target, truth_of(depth))) for x in (near, middle, sky)]
    assert losses[0] == pytest.approx(4 * losses[1])
    assert losses[2] == pytest.approx(losses[1] / 4)


def log_target(depth: torch.Tensor, log_range: float = 3.0) -> Target:
    encoding = TargetEncoding("log", (1000,), parameters={"log_range": log_range})
    return find_task("depth").encode_target(truth_of(depth), encoding, (8, 8))


def test_log_depth_is_about_relative_errors() -> None:
    """A tenth too far costs the same near and far; and what a scale can mend costs nothing in the aligned part."""
    depth = torch.tensor([1.0, 2.0, 4.0, 8.0]).repeat_interleave(16).view(1, 8, 8)
    target, loss = log_target(depth), loss_of("log")
    assert loss(target.images, target, truth_of(depth)).item() == pytest.approx(0, abs=1e-5)
    tenth = torch.zeros(1, 1, 1, 8, 8)
    tenth[..., :2, :] = np.log(1.1) / 3
    near = loss(target.images + tenth, target, truth_of(depth)).item()
    far = loss(target.images + tenth.flip(-2), target, truth_of(depth)).item()
    assert 0.25 * np.log(1.1) < near < 0.25 * np.log(1.1) + 0.1
    assert 0.25 * np.log(1.1) < far < 0.25 * np.log(1.1) + 0.1
    scaled = loss(target.images + np.log(1.1) / 3, target, truth_of(depth)).item()
    assert scaled == pytest.approx(np.log(1.1), abs=1e-4)


def test_the_fit_of_log_depth_is_that_of_the_metric() -> None:
    torch.manual_seed(1)
    depth = torch.rand(1, 8, 8) * 20 + 1
    depth[0, 0] = torch.tensor([torch.inf, 90.0, torch.nan, 5, 5, 5, 5, 5])
    target, loss = log_target(depth), loss_of("log")
    images = (target.images + 0.1 * torch.randn(1, 1, 1, 8, 8)).clamp(-1, 1).requires_grad_()
    valid = depth[0] < 80
    metric = affine_invariant_depth_metrics((3 * images[0, 0, 0].detach()).exp(), depth[0], valid)["abs_rel"]
    logarithmic = 3 * (images - target.images)[0, 0, 0][target.valid[0]].abs().mean()
    value = loss(images, target, truth_of(depth))
    assert (value - logarithmic).item() == pytest.approx(metric, rel=1e-3)
    value.sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    nothing = torch.full((1, 8, 8), torch.nan)
    assert loss(images, log_target(nothing), truth_of(nothing)).item() == 0


def test_a_mask_costs_more_where_it_was_hidden() -> None:
    mask = torch.full((1, 1, 3, 8, 8), -1.0)
    mask[..., 2:6, 2:6] = 1
    target = Target(mask, torch.ones(1, 8, 8, dtype=torch.bool))
    visible = mask[:, 0, 0] > 0
    visible[:, :, 4:] = False
    truth = replace(truth_of(torch.ones(1, 8, 8)), visible=visible, amodal=mask[:, 0, 0] > 0)
    lacks_hidden, lacks_visible = mask.clone(), mask.clone()
    lacks_hidden[..., 2:6, 4:6] = -1
    lacks_visible[..., 2:6, 2:4] = -1
    loss = loss_of("mask")
    assert loss(lacks_hidden, target, truth) > loss(lacks_visible, target, truth) + 0.3


def test_a_mask_without_object_is_learned_too() -> None:
    empty = torch.full((1, 1, 3, 8, 8), -1.0)
    target = Target(empty, torch.ones(1, 8, 8, dtype=torch.bool))
    assert loss_of("mask")(-empty, target, truth_of(torch.ones(1, 8, 8))) > 3


def normals_of(*vectors: tuple[float, float, float]) -> torch.Tensor:
    """(1, 1, 3, 8, 8): a band of each."""
    bands = torch.tensor(vectors, dtype=torch.float32).T.repeat_interleave(8 // len(vectors), dim=1)
    return bands[:, :, None].expand(-1, -1, 8)[None, None]


def test_an_angle_costs_more_the_larger_it_is() -> None:
    wanted = normals_of((0, 0, -1), (0, -1, 0))
    target, truth = Target(wanted, torch.ones(1, 8, 8, dtype=torch.bool)), truth_of(torch.ones(1, 8, 8))
    costs = []
    for degrees in (0, 10, 45, 90, 180):
        sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
        turned = normals_of((sine, 0, -cosine), (sine, -cosine, 0))
        costs.append(loss_of("unit_vector")(turned, target, truth).item())
    assert costs[0] < 0.01
    assert costs == sorted(costs)
    # 1 - cos, and a quarter of the squared chord, 2 (1 - cos); up to the smoothing of the length.
    assert costs[3] == pytest.approx(1.5, abs=0.01)


def test_normals_have_a_length_only_where_there_is_a_surface() -> None:
    sky = normals_of((0, 0, -1), (0, 0, 0))
    loss, truth = loss_of("unit_vector"), truth_of(torch.ones(1, 8, 8))
    target = Target(sky, torch.ones(1, 8, 8, dtype=torch.bool))
    assert loss(sky, target, truth) < loss(normals_of((0, 0, -0.5), (0, 0, 0)), target, truth)
    assert loss(sky, target, truth) < loss(normals_of((0, 0, -1), (0, 0, -1)), target, truth)
    unknown = target.valid.clone()
    unknown[:, 4:] = False
    surface = Target(sky, unknown)
    torch.testing.assert_close(loss(sky, surface, truth), loss(normals_of((0, 0, -1), (1, 0, 0)), surface, truth))
    assert loss(sky, Target(sky, torch.zeros_like(unknown)), truth).item() == 0


def test_angles_have_gradients_everywhere() -> None:
    """Also for the zeros that an untrained network gives, and for what is right already."""
    target = Target(normals_of((0, 0, -1), (0, 0, 0)), torch.ones(1, 8, 8, dtype=torch.bool))
    for start in (torch.zeros(1, 1, 3, 8, 8), target.images.clone(), -target.images):
        images = start.requires_grad_()
        loss_of("unit_vector")(images, target, truth_of(torch.ones(1, 8, 8))).sum().backward()
        assert images.grad is not None
        assert images.grad.isfinite().all()
    zeros = torch.zeros(1, 1, 3, 8, 8, requires_grad=True)
    loss_of("unit_vector")(zeros, target, truth_of(torch.ones(1, 8, 8))).sum().backward()
    assert zeros.grad is not None
    assert (zeros.grad[0, 0, 2, :4] > 0).all()  # the way down is towards the camera


def test_a_small_object_costs_as_much_as_the_white_around_it() -> None:
    images = torch.ones(1, 1, 3, 8, 8)
    images[..., :2, :2] = -0.5
    target = Target(images, torch.ones(1, 8, 8, dtype=torch.bool))
    truth = replace(truth_of(torch.ones(1, 8, 8)), amodal=images[:, 0, 0] < 1)
    loss = loss_of("rgb_on_white")
    assert loss(images, target, truth).item() == 0
    grey_object, grey_white = images.clone(), images.clone()
    grey_object[..., :2, :2] += 0.4
    grey_white[..., 2:, :] -= 0.4
    grey_white[..., :2, 2:] -= 0.4
    assert loss(grey_object, target, truth).item() == pytest.approx(0.2)
    assert loss(grey_white, target, truth).item() == pytest.approx(0.2)


def test_unknown_image_loss() -> None:
    with pytest.raises(InputError, match="no image-level loss for the target encoding 'metric'"):
        loss_of("metric")


def test_diffusion_loss_counts_valid_pixels() -> None:
    prediction, target = torch.zeros(1, 48, 4, 4), torch.zeros(1, 48, 4, 4)
    prediction[..., 0, 0] = 2.0
    valid = torch.ones(1, 16, 16, dtype=torch.bool)
    assert diffusion_loss(prediction, target, valid, "l2").item() == pytest.approx(4 / 16)
    assert diffusion_loss(prediction, target, valid, "l1").item() == pytest.approx(2 / 16)
    valid[:, :4, :4] = False
    assert diffusion_loss(prediction, target, valid, "l2").item() == 0


def test_load_balance_is_one_at_best() -> None:
    even = torch.full((8, 4), 0.25)
    every = torch.arange(8).view(8, 1) % 4
    assert load_balancing_loss(even, every).item() == pytest.approx(1)
    one = torch.tensor([1.0, 0, 0, 0]).expand(8, 4)
    assert load_balancing_loss(one, torch.zeros(8, 1, dtype=torch.long)).item() == pytest.approx(4)


def test_load_balance_is_seen_in_training_only_and_has_gradients() -> None:
    network = random_transformer(sample_size=8, **SMALL).train().requires_grad_(True)
    balance = LoadBalance(network)
    inputs = torch.randn(2, 12, 8, 8), torch.tensor([5]), torch.tensor([1000, 1001])
    network(*inputs)
    loss = balance.take()
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    for block in network.blocks:
        assert block.mlp.gate.weight.grad.norm() > 0
    assert balance.take() == 0
    network.eval()(*inputs)
    assert balance.take() == 0


def test_balancing_spreads_tokens() -> None:
    torch.manual_seed(0)
    network = random_transformer(sample_size=8, **SMALL).train().requires_grad_(True)
    balance = LoadBalance(network)
    optimizer = torch.optim.Adam([block.mlp.gate.weight for block in network.blocks], lr=0.02)
    inputs = torch.randn(4, 12, 8, 8), torch.tensor([5]), torch.tensor([1000, 1001, 1002, 1003])
    history = []
    for _ in range(30):
        network(*inputs)
        loss = balance.take()
        assert isinstance(loss, torch.Tensor)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < history[0]
    assert history[-1] == pytest.approx(len(network.blocks), rel=0.03)


@pytest.mark.parametrize("shape", [(1, 16, 64), (3, 64, 16), (2, 32, 32)])
def test_orthogonalize(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    result = orthogonalize(matrices)
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.4
    assert values.max() < 1.3  # near 1, not equal
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    cosine = (
        (result * (left @ right)).flatten(1).sum(1)
        / result.flatten(1).norm(dim=1)
        / (left @ right).flatten(1).norm(dim=1)
    )
    assert cosine.min() > 0.95


def test_muon_treats_every_expert_apart() -> None:
    torch.manual_seed(0)
    stack = torch.nn.Parameter(torch.randn(3, 8, 16))
    singles = [torch.nn.Parameter(matrix.clone()) for matrix in stack.detach()]
    optimizers = Muon([stack], lr=0.1), Muon(singles, lr=0.1)
    for seed in range(3):
        gradient = (
            torch.randn(3, 8, 16, generator=torch.Generator().manual_seed(seed))
            * torch.tensor([1, 10, 0.1])[:, None, None]
        )
        stack.grad = gradient
        for single, own in zip(singles, gradient, strict=True):
            single.grad = own.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(stack.detach(), torch.stack([s.detach() for s in singles]), rtol=2e-2, atol=2e-3)


def test_muon_gets_the_hidden_matrices_and_adamw_everything_else() -> None:
    network = random_transformer(sample_size=8, stem_channels=16, **SMALL).requires_grad_(True)
    muon, adamw = make_optimizers(network, replace(tiny().optimizer, name="muon"))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    hidden = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    others = [names[id(p)] for group in adamw.param_groups for p in group["params"]]
    assert hidden | set(others) == set(names.values())
    assert len(hidden) + len(others) == len(names)
    assert {"blocks.0.attn.qkv.weight", "blocks.1.mlp.fc2.weight", "stem.levels.0.0.conv1.weight"} <= hidden
    assert {"y_embedder.embedding_table.weight", "x_embedder.weight", "blocks.0.mlp.gate.weight"} <= set(others)
    undecayed = {names[id(p)] for group in adamw.param_groups if not group["weight_decay"] for p in group["params"]}
    assert {"blocks.0.mlp.fc1.bias", "x_embedder.bias", "stem.conv_in.bias"} <= undecayed
