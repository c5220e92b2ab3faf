"""What the network is asked in a training step."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training_runs import tiny

from diffusion_perception_ros.model.codec import PixelUnshuffleCodec
from diffusion_perception_ros.tasks import Truth, find_task
from diffusion_perception_ros.training.balance import LoadBalance
from diffusion_perception_ros.training.batches import Questions
from diffusion_perception_ros.training.lookup import Offsets
from diffusion_perception_ros.training.noise import NoiseSchedule
from diffusion_perception_ros.training.step import Losses

SIZE, COUNT = 16, 20


class Recorder(nn.Module):
    """Answers half of what it sees as target latent, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, Tensor]] = []
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, inputs: Tensor, timestep: Tensor, labels: Tensor) -> SimpleNamespace:
        self.calls.append((inputs[:, -48:], timestep))
        return SimpleNamespace(sample=self.scale * inputs[:, -48:])


def questions(task: str) -> Questions:
    generator = torch.Generator().manual_seed(0)
    nothing = torch.zeros(COUNT, SIZE, SIZE, dtype=torch.bool)
    truth = Truth(
        depth=torch.rand(COUNT, SIZE, SIZE, generator=generator) + 1,
        flow=torch.rand(COUNT, 2, SIZE, SIZE, generator=generator),
        flow_valid=~nothing, visible=nothing, amodal=~nothing,
    )  # fmt: skip
    target = find_task(task).encode_target(truth, tiny().tasks[task].encoding(), (SIZE, SIZE))
    image, prompt = torch.rand(2, COUNT, 3, SIZE, SIZE, generator=generator)
    return Questions(task, image, prompt, target, truth)


@pytest.mark.parametrize("rollout_share", [0.0, 0.3])
def test_roll_outs_are_what_a_sampler_comes_to(rollout_share: float) -> None:
    """After the first of several DDIM steps; the samples around them are as without."""
    config = tiny()
    loss = replace(config.loss, one_step_share=0.5, rollout_share=rollout_share, zeros_share=0.2)
    config = replace(config, loss=loss, diffusion=replace(config.diffusion, multi_resolution_noise=0.9))
    schedule = NoiseSchedule(config.diffusion, torch.device("cpu"))
    network = Recorder().train()
    losses = Losses(config, PixelUnshuffleCodec(4), schedule, LoadBalance(network), Offsets(network))
    batch = [questions("depth"), questions("flow")]
    total, parts = losses(network, batch, np.random.default_rng(0))
    total.backward()
    assert network.training
    assert network.scale.grad is not None
    assert ("depth_rollout" in parts) == (rollout_share > 0)

    latents, timesteps = network.calls[-1]
    depth, depth_timesteps = latents[:COUNT], timesteps[:COUNT]
    assert (depth_timesteps[:10] == 999).all()
    assert not depth[:2].any()
    assert depth[2:10].std() == pytest.approx(1, abs=0.05)
    assert (depth_timesteps[10:] < 999).any()
    if not rollout_share:
        assert len(network.calls) == 1
        return

    first, first_timesteps = network.calls[0]
    assert (first_timesteps == 999).all()
    noise = first[:6]
    for i in range(6):
        alpha = schedule.alphas[depth_timesteps[10 + i]]
        torch.testing.assert_close(depth[10 + i], alpha.sqrt() * 0.5 * noise[i] + (1 - alpha).sqrt() * noise[i])
    # A question about flow has two samples, which go on from their own answers with the noise that they share.
    flow = latents[COUNT:].unflatten(0, (COUNT, 2))
    torch.testing.assert_close(flow[10:16, 0], flow[10:16, 1])
