"""Against vectors computed by the released code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import shared
from safetensors.torch import load_file

from diffusion_perception_ros.evaluation.metrics import (
    align_least_squares,
    depth_metrics,
    end_point_error,
    end_point_error_after_fit,
)
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.sampling.ensemble import ensemble_depth

KINDS = ("v_prediction", "epsilon")


def assert_close(got: torch.Tensor, want: torch.Tensor, most: float, largest: float) -> None:
    """99.9th percentile and maximum of the error, relative to the largest value: routing has near-ties."""
    error = (got - want).abs().flatten() / want.abs().max()
    assert error.kthvalue(max(1, int(0.999 * error.numel()))).values <= most
    assert error.max() <= largest


def load(folder: Path) -> tuple[PerceptionPipeline, dict[str, int]]:
    config = json.loads((folder / "config.json").read_text())
    pipe = PerceptionPipeline.from_official(
        folder / "dit_moe_generalist.pt",
        folder / "stable-diffusion-2",
        num_attention_heads=config["num_heads"],
        num_experts_per_tok=config["num_experts_per_tok"],
    )
    return pipe, config["labels"]


@pytest.mark.parametrize("kind", KINDS)
def test_forward(kind: str) -> None:
    folder = shared("reference", kind)
    pipe, _ = load(folder)
    vectors = load_file(folder / "forward.safetensors")
    with torch.inference_mode():
        per_sample = pipe.transformer(vectors["x"], vectors["t"], vectors["y"]).sample
        one_for_all = pipe.transformer(vectors["x"], torch.tensor([981]), vectors["y"]).sample
    assert_close(per_sample, vectors["out"], 1e-5, 1e-3)
    assert_close(one_for_all, vectors["out_shared_t981"], 1e-5, 1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 4, 25])
def test_sample(kind: str, steps: int) -> None:
    """All tasks in one batch, as no released code path does, against one task at a time."""
    folder = shared("reference", kind)
    pipe, labels = load(folder)
    vectors = load_file(folder / "single_infer.safetensors")
    prompts = {
        "depth": vectors["mask01"],
        "segment": vectors["mask01"] * 2 - 1,
        "flow_dx": vectors["next_rgb"],
        "flow_dy": vectors["next_rgb"],
    }
    got = pipe.sample(
        vectors["rgb"].expand(4, -1, -1, -1),
        torch.cat(list(prompts.values())),
        torch.tensor([labels[task] for task in prompts]),
        steps,
        latents=torch.cat([vectors[f"noise_{task}"] for task in prompts]),
    )
    for i, task in enumerate(prompts):
        assert_close(got[i : i + 1], vectors[f"{task}_steps{steps}"], 1e-4, 1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_codec_latents(kind: str) -> None:
    folder = shared("reference", kind)
    pipe, _ = load(folder)
    vectors = load_file(folder / "single_infer.safetensors")
    with torch.inference_mode():
        assert_close(pipe.codec.encode(vectors["rgb"]), vectors["latent_rgb"], 1e-5, 1e-4)
        assert_close(pipe.codec.encode(vectors["next_rgb"]), vectors["latent_next"], 1e-5, 1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_released_ensemble(kind: str) -> None:
    vectors = load_file(shared("reference", kind, "ensemble.safetensors"))
    depth, uncertainty = ensemble_depth(vectors["stack"][:, 0], "released")
    assert uncertainty is not None
    for got, want in ((depth, vectors["depth"][0, 0]), (uncertainty, vectors["uncertainty"][0, 0])):
        # Two steps along rounded finite differences: with SciPy 1.15 it is 0.031, with 1.11 and 1.17 less than 0.03.
        assert (got - want).abs().max() <= 0.035
        assert (got - want).abs().mean() <= 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_metrics(kind: str) -> None:
    folder = shared("reference", kind)
    vectors = load_file(folder / "metrics.safetensors")
    want = json.loads((folder / "metrics.json").read_text())
    prediction, target = (
        torch.stack([vectors[f"flow_{which}_x"], vectors[f"flow_{which}_y"]]) for which in ("pred", "gt")
    )
    got = depth_metrics(vectors["depth_pred"], vectors["depth_gt"], vectors["depth_valid"])
    got["epe_no_fit"] = end_point_error(prediction, target)
    got["epe_with_fit"] = end_point_error_after_fit(prediction, target)
    assert got == pytest.approx(want, rel=1e-5)
    # The released fit takes every pixel, valid or not.
    everywhere = torch.ones_like(vectors["depth_valid"][0])
    fitted = align_least_squares(vectors["depth_pred"][0], vectors["depth_gt"][0], everywhere)
    assert_close(fitted, vectors["depth_least_squares_fit"], 1e-5, 1e-5)
