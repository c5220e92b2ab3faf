"""``diffusion-perception evaluate``: how good a checkpoint is, beside baselines that need no learning."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from diffusion_perception_ros.cli.dataset_options import add_dataset_options, not_negative, open_dataset
from diffusion_perception_ros.cli.options import add_pipeline_options, sampling_arguments

if TYPE_CHECKING:
    from diffusion_perception_ros.pipeline import PerceptionPipeline
    from diffusion_perception_ros.sampling.settings import SamplingSettings

_EPILOG = """\
examples:
  diffusion-perception evaluate
  diffusion-perception evaluate --dataset scenes --samples 64 --steps 4 --ensemble 4
  diffusion-perception evaluate --dataset hypersim --path Hypersim --samples 100 --checkpoint generalist
  diffusion-perception evaluate --dataset bag --path scene.mcap --json > result.json

What the numbers mean, and where they are from, is in docs/evaluation.md.
"""
_SCENES = 256


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = subparsers.add_parser(
        "evaluate",
        help="compare a checkpoint with ground truth, and with baselines",
        description="Compare a checkpoint's depth, flow and amodal masks with ground truth, and with baselines that "
        "need no learning, on the same samples.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_dataset_options(parser, f"{_SCENES} scenes, all of others").add_argument(
        "--sequences",
        type=not_negative,
        default=8,
        metavar="N",
        help="how many runs of 8 frames flicker is measured on, of scenes and bags (default: %(default)s)",
    )
    add_pipeline_options(parser, seed_option="--noise-seed")
    result = parser.add_argument_group("output")
    result.add_argument("--json", action="store_true", help="print one JSON object, and nothing else")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate and report."""
    from tqdm import tqdm

    from diffusion_perception_ros.evaluation.evaluate import evaluate, predict_with
    from diffusion_perception_ros.evaluation.report import PROTOCOL, Report
    from diffusion_perception_ros.sampling.settings import SamplingSettings

    dataset, pipe = open_dataset(args, _SCENES, args.sequences)
    sampling = SamplingSettings(**sampling_arguments(args, seed=args.noise_seed))
    quiet = True if args.json else None
    evaluation = evaluate(
        predict_with(pipe, sampling),
        tqdm(dataset, unit="sample", dynamic_ncols=True, disable=quiet),
        pipe.metadata.tasks,
        tqdm(dataset.sequences(), unit="sequence", dynamic_ncols=True, disable=quiet, leave=False),
    )
    settings = {**dataset.settings, "samples": len(dataset), **_settings(pipe, sampling), **PROTOCOL}
    report = Report(pipe.metadata.name, evaluation, settings)
    if args.json:
        print(report.to_json())
    else:
        print(report.to_text())
        if pipe.metadata.is_random:
            print("The weights are random, not trained: these numbers mean nothing yet.", file=sys.stderr)
    return 0


def _settings(pipe: PerceptionPipeline, sampling: SamplingSettings) -> dict[str, Any]:
    from diffusion_perception_ros.request import default_steps

    return {
        "checkpoint": pipe.metadata.name,
        "is_random": pipe.metadata.is_random,
        "device": str(pipe.device),
        "dtype": str(pipe.dtype).removeprefix("torch."),
        "sampler": sampling.sampler or pipe.metadata.sampler,
        "steps": sampling.num_inference_steps or default_steps(pipe.metadata, sampling.sampler),
        "ensemble": sampling.ensemble_size,
        "flip_members": sampling.flip_members,
        "resize": sampling.resize,
        "noise_seed": sampling.seed,
    }
