"""The sample sheet: what the checkpoint of the moment makes of scenes that no step draws."""

from __future__ import annotations

from collections.abc import Sequence

from diffusion_perception_ros.evaluation.evaluate import evaluate, predict_with
from diffusion_perception_ros.evaluation.samples import Sample
from diffusion_perception_ros.evaluation.sheets.drawing import Picture
from diffusion_perception_ros.evaluation.sheets.sample_sheet import sample_sheet
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.sampling.settings import SamplingSettings


def held_out_sheet(pipe: PerceptionPipeline, samples: Sequence[Sample], step: int) -> Picture:
    """Predictions, truth and errors of some scenes, with their figures and those of baselines.

    Args:
        pipe: The checkpoint; its own sampler is used.
        samples: A row each; all of one size.
        step: Of the training.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    metadata, predict = pipe.metadata, predict_with(pipe, SamplingSettings())
    sampling = f"{metadata.sampler}, {metadata.num_inference_steps} step{'s' * (metadata.num_inference_steps > 1)}"
    notes = [
        f"{len(samples)} scenes that no step draws, {metadata.resolution}x{metadata.resolution} pixels   |   "
        f"averaged weights   |   {sampling}"
    ]
    return sample_sheet(
        f"{metadata.name} at step {step}",
        notes,
        [(sample.name, sample) for sample in samples],
        predict,
        metadata,
        evaluate(predict, samples, metadata.tasks),
        total="these scenes",
    )
