"""Samplers by name, all on diffusers' schedulers, and which combinations cannot work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.schedule import ddim_scheduler


@dataclass(frozen=True)
class Sampler:
    """One way from an initial latent to a prediction.

    Attributes:
        name: What users write.
        scheduler: Makes the diffusers scheduler from the checkpoint's scheduler config.
        initial_latent: What the third slot of the network's input starts as.
        one_step: Takes exactly one step and returns its estimate of the clean latent.
    """

    name: str
    scheduler: Callable[[Mapping[str, Any]], Any]
    initial_latent: Literal["noise", "zeros", "image"] = "noise"
    one_step: bool = False

    @property
    def deterministic(self) -> bool:
        """Without noise, so that every ensemble member is the same."""
        return self.initial_latent != "noise"


def _ddim_trailing(config: Mapping[str, Any]) -> Any:
    return ddim_scheduler({**config, "timestep_spacing": "trailing"})


def _dpm_solver(config: Mapping[str, Any]) -> Any:
    from diffusers import DPMSolverMultistepScheduler  # noqa: PLC0415  # it brings scipy's statistics along

    return DPMSolverMultistepScheduler.from_config(
        {**config, "timestep_spacing": "trailing"}, algorithm_type="dpmsolver++", solver_order=2
    )


# The one-step forms are closed formulas of the network's output: what a config clips is not part of them.
_UNCLIPPED = {"clip_sample": False, "thresholding": False}


def _last_timestep(config: Mapping[str, Any]) -> Any:
    return _ddim_trailing({**config, **_UNCLIPPED})


def _constant_zero_alpha(config: Mapping[str, Any]) -> Any:
    constant = {"beta_schedule": "linear", "beta_start": 1.0, "beta_end": 1.0, "trained_betas": None}
    spacing = {"timestep_spacing": "leading", "steps_offset": 1, "rescale_betas_zero_snr": False}
    return ddim_scheduler({**config, **constant, **spacing, **_UNCLIPPED})


SAMPLERS: dict[str, Sampler] = {
    sampler.name: sampler
    for sampler in (
        # As released: the checkpoint's own spacing. With `leading`, one or two steps start from pure noise that is
        # labelled t = 1 or t = 501, which is why naive few-step results collapse.
        Sampler("ddim", ddim_scheduler),
        # Starts at t = 999, where the input really is noise (Lin et al. 2024, arXiv 2305.08891).
        Sampler("ddim_trailing", _ddim_trailing),
        # DPM-Solver++ 2M (Lu et al. 2022, arXiv 2211.01095).
        Sampler("dpm_solver", _dpm_solver),
        # Zero noise at t = T (Martin Garcia et al. 2025, E2E-FT, arXiv 2409.11355).
        Sampler("one_step", _last_timestep, initial_latent="zeros", one_step=True),
        # The image latent with alpha_bar = 0 at t = 1, so that x0 = -v (Xu et al. 2025, GenPercept, arXiv 2403.06090).
        Sampler("one_step_genpercept", _constant_zero_alpha, initial_latent="image", one_step=True),
    )
}


def find_sampler(name: str) -> Sampler:
    """The sampler of that name.

    Raises:
        InputError: There is none.
    """
    try:
        return SAMPLERS[name]
    except KeyError:
        raise InputError(f"sampler {name!r} is unknown; use one of {', '.join(SAMPLERS)}.") from None


def check_steps(sampler: Sampler, scheduler_config: Mapping[str, Any], num_inference_steps: int) -> None:
    """Refuse a number of steps that the checkpoint's schedule does not have.

    Raises:
        InputError: Says the possible range.
    """
    limit = int(scheduler_config["num_train_timesteps"])
    if not isinstance(num_inference_steps, int) or not 1 <= num_inference_steps <= limit:
        raise InputError(f"num_inference_steps is {num_inference_steps!r}; use a whole number from 1 to {limit}.")
    leading = sampler.name == "ddim" and scheduler_config.get("timestep_spacing", "leading") == "leading"
    first = (num_inference_steps - 1) * (limit // num_inference_steps) + scheduler_config.get("steps_offset", 0)
    if leading and first >= limit:
        raise InputError(
            f"num_inference_steps={num_inference_steps} would begin at timestep {first} with this checkpoint's leading "
            f"spacing, but the last one is {limit - 1}; use fewer steps or 'ddim_trailing'."
        )


def check_sampling(
    sampler: Sampler,
    scheduler_config: Mapping[str, Any],
    num_inference_steps: int,
    ensemble_size: int,
    flip_members: bool,
) -> None:
    """Refuse what cannot give a meaningful prediction.

    Args:
        sampler: The sampler.
        scheduler_config: The checkpoint's own.
        num_inference_steps: Evaluations of the network.
        ensemble_size: Members.
        flip_members: Every second member sees its pictures mirrored.

    Raises:
        InputError: The combination is impossible; the message says why and what works.
    """
    check_steps(sampler, scheduler_config, num_inference_steps)
    if sampler.one_step and num_inference_steps != 1:
        raise InputError(
            f"sampler {sampler.name!r} takes exactly one step, not {num_inference_steps}; "
            "set num_inference_steps=1 or use 'ddim_trailing'."
        )
    prediction = scheduler_config["prediction_type"]
    if prediction == "epsilon" and num_inference_steps == 1:
        raise InputError(
            "a checkpoint with epsilon prediction cannot do one step: its error would be divided by "
            "sqrt(alpha_bar_T); use at least 2 steps (4 or more are sensible)."
        )
    if prediction == "epsilon" and scheduler_config.get("rescale_betas_zero_snr"):
        raise InputError(
            "epsilon prediction with a zero-terminal-SNR schedule divides by zero; "
            "this checkpoint's scheduler config must be v_prediction or not rescaled."
        )
    if sampler.initial_latent == "image" and prediction != "v_prediction":
        raise InputError(
            f"sampler {sampler.name!r} needs a v_prediction checkpoint, this one has {prediction}; use 'ddim_trailing'."
        )
    if ensemble_size < 1:
        raise InputError(f"ensemble_size must be at least 1, not {ensemble_size}.")
    if sampler.deterministic:
        if ensemble_size > 1 and not flip_members:
            raise InputError(
                f"sampler {sampler.name!r} is deterministic, so {ensemble_size} members would be identical; "
                "use flip_members=True with ensemble_size=2, or 'ddim_trailing'."
            )
        if ensemble_size > 2:
            raise InputError(
                f"sampler {sampler.name!r} is deterministic, so only 2 members differ (as seen and mirrored), "
                f"not {ensemble_size}; set ensemble_size=2 or use 'ddim_trailing'."
            )
    if flip_members and ensemble_size < 2:
        raise InputError(
            f"flip_members mirrors every second member, but ensemble_size is {ensemble_size}; set it to at least 2."
        )


def possible_steps(sampler: Sampler, scheduler_config: Mapping[str, Any], most: int) -> tuple[int, ...]:
    """The numbers of steps, ascending, that give a meaningful prediction and are no more than so many."""

    def is_possible(steps: int) -> bool:
        try:
            check_sampling(sampler, scheduler_config, steps, ensemble_size=1, flip_members=False)
        except InputError:
            return False
        return True

    return tuple(steps for steps in range(1, most + 1) if is_possible(steps))
