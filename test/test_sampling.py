"""Samplers, what they refuse, and ensembling."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.random import SCHEDULER_CONFIG
from diffusion_perception_ros.sampling.denoise import denoise
from diffusion_perception_ros.sampling.ensemble import align_standardize, ensemble_depth
from diffusion_perception_ros.sampling.samplers import SAMPLERS, check_sampling, find_sampler
from diffusion_perception_ros.sampling.schedulers import scheduler_for

EPSILON = {**SCHEDULER_CONFIG, "prediction_type": "epsilon"}
X0 = {**SCHEDULER_CONFIG, "prediction_type": "sample"}
ZERO_SNR = {"rescale_betas_zero_snr": True}


class Network:
    """What denoising asks of the transformer, for a function of its input and timestep."""

    modulates_ahead = True

    def __init__(self, answer: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        self.answer = answer

    def modulations(self, timestep: torch.Tensor, class_labels: torch.Tensor) -> Any:
        return SimpleNamespace(step=timestep.squeeze(1).__getitem__)

    def __call__(self, x: torch.Tensor, timestep: torch.Tensor, labels: torch.Tensor, modulations: Any) -> Any:
        assert modulations == timestep
        return SimpleNamespace(sample=self.answer(x, timestep))


class Oracle(Network):
    """A network that knows the clean latent and answers as the prediction type demands."""

    def __init__(self, clean: torch.Tensor, config: dict[str, Any]) -> None:
        self.clean, self.config = clean, config
        self.alphas = SAMPLERS["ddim"].scheduler(config).alphas_cumprod
        self.timesteps: list[int] = []
        super().__init__(self.predict)

    def predict(self, model_input: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        self.timesteps.append(int(timestep))
        noisy = model_input[:, -4:]
        alpha = self.alphas[int(timestep)]
        noise = (noisy - alpha.sqrt() * self.clean) / (1 - alpha).sqrt()
        answers = {
            "epsilon": noise,
            "sample": self.clean,
            "v_prediction": alpha.sqrt() * noise - (1 - alpha).sqrt() * self.clean,
        }
        prediction = answers[self.config["prediction_type"]]
        return torch.cat([prediction, torch.full_like(prediction, 99.0)], dim=1)


def run(name: str, config: dict[str, Any], steps: int) -> tuple[torch.Tensor, Oracle]:
    torch.manual_seed(0)
    clean, conditions = torch.randn(2, 4, 8, 8), torch.randn(2, 8, 8, 8)
    oracle = Oracle(clean, config)
    sampler = SAMPLERS[name]
    scheduler = sampler.scheduler(config)
    scheduler.set_timesteps(steps)
    labels = torch.tensor([1000, 1000])
    initial = torch.randn(2, 4, 8, 8)
    got = denoise(oracle, scheduler, conditions, initial, labels, one_step=sampler.one_step)  # type: ignore[arg-type]
    return (got - clean).abs().max(), oracle


@pytest.mark.parametrize(("steps", "kept"), [(1, 1), (4, 1), (5, 0), (60, 0)])
def test_modulations_of_few_steps_are_kept(steps: int, kept: int) -> None:
    """Those of many would fill a GPU's memory."""
    scheduler = SAMPLERS["ddim"].scheduler(SCHEDULER_CONFIG)
    scheduler.set_timesteps(steps)
    oracle, asked = Oracle(torch.zeros(1, 4, 2, 2), SCHEDULER_CONFIG), []

    def known(timesteps: Any, make: Callable[[], Any]) -> Any:
        asked.append(timesteps)
        return make()

    inputs = torch.randn(1, 8, 2, 2), torch.randn(1, 4, 2, 2), torch.tensor([1000])
    denoise(oracle, scheduler, *inputs, known=known)  # type: ignore[arg-type]
    assert len(asked) == kept


@pytest.mark.parametrize("config", [SCHEDULER_CONFIG, EPSILON, X0], ids=["v", "epsilon", "x0"])
@pytest.mark.parametrize("steps", [2, 4, 10, 60])
@pytest.mark.parametrize("name", ["ddim_trailing", "dpm_solver"])
def test_an_oracle_is_followed_to_the_clean_latent(name: str, steps: int, config: dict[str, Any]) -> None:
    error, oracle = run(name, config, steps)
    assert oracle.timesteps[0] == 999
    assert len(oracle.timesteps) == steps
    # DDIM with set_alpha_to_one=False ends at alpha_bar_0 = 0.99915, so sqrt(1 - 0.99915) of the noise is left.
    assert error < (0.15 if name == "ddim_trailing" else 1e-3)


@pytest.mark.parametrize("config", [SCHEDULER_CONFIG, X0], ids=["v", "x0"])
def test_one_step_returns_the_clean_estimate(config: dict[str, Any]) -> None:
    error, oracle = run("one_step", config, 1)
    assert oracle.timesteps == [999]
    assert error < 1e-4


@pytest.mark.parametrize("name", ["ddim", "ddim_trailing", "dpm_solver"])
def test_runs_that_overlap_do_not_see_each_other(name: str) -> None:
    sampler = SAMPLERS[name]

    def begin(scheduler: Any, steps: int) -> Iterator[torch.Tensor]:
        scheduler.set_timesteps(steps)
        latents = torch.full((1, 4, 8, 8), float(steps))
        for timestep in scheduler.timesteps:
            latents = scheduler.step(latents.sin(), timestep, latents).prev_sample
            yield latents

    want = [list(begin(sampler.scheduler(SCHEDULER_CONFIG), steps)) for steps in (4, 6)]
    for _ in range(2):
        first, second = (begin(scheduler_for(sampler, SCHEDULER_CONFIG), steps) for steps in (4, 6))
        turns = list(zip(first, second, strict=False))
        got = [[a for a, _ in turns], [b for _, b in turns] + list(second)]
        for x, y in zip(want, got, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(x, y, strict=False))


@pytest.mark.parametrize("betas", [[0.1] * 1000, np.full(1000, 0.1)], ids=["list", "array"])
def test_each_noise_schedule_has_a_scheduler_of_its_own(betas: Any) -> None:
    sampler, config = SAMPLERS["ddim_trailing"], dict(SCHEDULER_CONFIG)
    scheduler_for(sampler, config)
    config["trained_betas"] = betas
    given = scheduler_for(sampler, config)
    assert torch.equal(given.alphas_cumprod, sampler.scheduler(config).alphas_cumprod)
    assert given.alphas_cumprod[0] == pytest.approx(0.9)


def test_zero_terminal_snr_works_with_v() -> None:
    for name, steps in (("one_step", 1), ("ddim_trailing", 4), ("dpm_solver", 4)):
        scheduler = SAMPLERS[name].scheduler({**SCHEDULER_CONFIG, **ZERO_SNR})
        scheduler.set_timesteps(steps)
        latents = torch.randn(1, 4, 8, 8)
        network = Network(lambda x, t: x[:, -8:] * 0.1)
        out = denoise(network, scheduler, torch.randn(1, 8, 8, 8), latents, torch.tensor([0]))  # type: ignore[arg-type]
        assert out.isfinite().all()


def test_genpercept_form_is_always_v_at_t_1() -> None:
    sampler = SAMPLERS["one_step_genpercept"]
    scheduler = sampler.scheduler({**SCHEDULER_CONFIG, **ZERO_SNR})
    scheduler.set_timesteps(1)
    seen = []
    v = torch.randn(1, 4, 8, 8)

    def always_v(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append(int(t))
        return torch.cat([v, v], dim=1)

    image = torch.randn(1, 4, 8, 8)
    out = denoise(Network(always_v), scheduler, torch.cat([image, image], 1), image, torch.tensor([0]), one_step=True)  # type: ignore[arg-type]
    assert seen == [1]
    torch.testing.assert_close(out, -v)
    assert sampler.initial_latent == "image"


def test_one_step_ignores_clipping() -> None:
    """The one-step forms are closed formulas; a config's clip_sample is about pixel-space diffusion."""
    for name in ("one_step", "one_step_genpercept"):
        config = SAMPLERS[name].scheduler({**SCHEDULER_CONFIG, "clip_sample": True, "thresholding": True}).config
        assert not config.clip_sample
        assert not config.thresholding


def test_released_ddim_feeds_noise_as_nearly_clean() -> None:
    """The trap that the trailing samplers avoid."""
    scheduler = SAMPLERS["ddim"].scheduler(SCHEDULER_CONFIG)
    scheduler.set_timesteps(1)
    assert scheduler.timesteps.tolist() == [1]


@pytest.mark.parametrize(
    ("sampler", "config", "steps", "ensemble", "flip", "sentence"),
    [
        ("ddim", SCHEDULER_CONFIG, 0, 1, False, "num_inference_steps is 0; use a whole number from 1 to 1000"),
        ("ddim", SCHEDULER_CONFIG, 1001, 1, False, "num_inference_steps is 1001"),
        ("ddim", SCHEDULER_CONFIG, 1000, 1, False, "would begin at timestep 1000"),
        ("one_step", SCHEDULER_CONFIG, 2, 1, False, "exactly one step, not 2"),
        ("one_step", EPSILON, 1, 1, False, "sqrt\\(alpha_bar_T\\)"),
        ("ddim_trailing", EPSILON, 1, 1, False, "cannot do one step"),
        ("dpm_solver", EPSILON, 1, 1, False, "cannot do one step"),
        ("ddim_trailing", {**EPSILON, **ZERO_SNR}, 4, 1, False, "divides by zero"),
        ("one_step_genpercept", X0, 1, 1, False, "needs a v_prediction checkpoint, this one has sample"),
        ("ddim", SCHEDULER_CONFIG, 4, 0, False, "ensemble_size must be at least 1, not 0"),
        ("one_step", SCHEDULER_CONFIG, 1, 4, False, "4 members would be identical"),
        ("one_step", SCHEDULER_CONFIG, 1, 4, True, "only 2 members differ"),
        ("ddim", SCHEDULER_CONFIG, 4, 1, True, "flip_members mirrors every second member, but ensemble_size is 1"),
    ],
)
def test_impossible_combinations(
    sampler: str, config: dict[str, Any], steps: int, ensemble: int, flip: bool, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        check_sampling(find_sampler(sampler), config, steps, ensemble, flip)


@pytest.mark.parametrize(
    ("sampler", "config", "steps", "ensemble", "flip"),
    [
        ("ddim", EPSILON, 50, 5, False),
        ("ddim", SCHEDULER_CONFIG, 999, 1, False),
        ("ddim_trailing", SCHEDULER_CONFIG, 1000, 1, False),
        ("ddim_trailing", {**SCHEDULER_CONFIG, **ZERO_SNR}, 1, 5, False),
        ("one_step", SCHEDULER_CONFIG, 1, 2, True),
        ("one_step_genpercept", SCHEDULER_CONFIG, 1, 1, False),
        ("dpm_solver", X0, 1, 3, True),
    ],
)
def test_possible_combinations(sampler: str, config: dict[str, Any], steps: int, ensemble: int, flip: bool) -> None:
    check_sampling(find_sampler(sampler), config, steps, ensemble, flip)


def test_unknown_sampler_lists_the_known() -> None:
    with pytest.raises(InputError, match="'euler' is unknown; use one of ddim, ddim_trailing"):
        find_sampler("euler")


def members(seed: int, count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(24, 32, generator=generator)
    scale = 0.5 + torch.rand(count, 1, 1, generator=generator)
    shift = torch.rand(count, 1, 1, generator=generator) - 0.5
    return truth, scale * (truth + noise * torch.randn(count, 24, 32, generator=generator)) + shift


@given(seed=st.integers(0, 1000), count=st.integers(2, 6))
def test_standardize_undoes_scale_and_shift(seed: int, count: int) -> None:
    _, depths = members(seed, count, noise=0.0)
    aligned = align_standardize(depths)
    torch.testing.assert_close(aligned, aligned[:1].expand_as(aligned), rtol=1e-4, atol=1e-4)
    # In the members' mean unit: aligning must not bring in a scale of its own.
    torch.testing.assert_close(aligned.mean(), depths.mean(), rtol=1e-2, atol=0.05)


@given(seed=st.integers(0, 1000))
def test_the_order_of_members_does_not_matter(seed: int) -> None:
    _, depths = members(seed, 5, noise=0.1)
    one, one_spread = ensemble_depth(depths)
    other, other_spread = ensemble_depth(depths.flip(0))
    assert one_spread is not None
    assert other_spread is not None
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(one_spread, other_spread)


@pytest.mark.parametrize("aligner", ["standardize", "released"])
def test_ensembling_beats_its_members(aligner: str) -> None:
    truth, depths = members(3, 7, noise=0.1)

    def error(depth: torch.Tensor) -> float:
        return 1 - float(torch.corrcoef(torch.stack([depth.flatten(), truth.flatten()]))[0, 1])

    depth, uncertainty = ensemble_depth(depths, aligner)
    assert error(depth) < 0.5 * min(error(member) for member in depths)
    assert uncertainty is not None
    assert 0 < uncertainty.mean() < 0.2


def test_noisier_pixels_are_more_uncertain() -> None:
    torch.manual_seed(0)
    depths = torch.rand(1, 24, 32).expand(8, -1, -1).clone()
    depths[:, :, 16:] += 0.2 * torch.randn(8, 24, 16)
    _, uncertainty = ensemble_depth(depths)
    assert uncertainty is not None
    assert uncertainty[:, 16:].mean() > 3 * uncertainty[:, :16].mean()


def test_few_members_have_no_uncertainty() -> None:
    depths = torch.rand(2, 8, 8)
    assert ensemble_depth(depths)[1] is None
    depth, spread = ensemble_depth(depths[:1])
    assert spread is None
    assert torch.equal(depth, depths[0])


def test_flat_members_stay_finite() -> None:
    for aligner in ("standardize", "released"):
        depth, _ = ensemble_depth(torch.full((3, 8, 8), 0.4), aligner)
        assert depth.isfinite().all()
