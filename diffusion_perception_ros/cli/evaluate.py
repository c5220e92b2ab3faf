"""``diffusion-perception evaluate``: how good a checkpoint is, beside baselines that need no learning."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diffusion_perception_ros.cli.dataset_options import (
    add_dataset_options,
    check_dataset_options,
    not_negative,
    open_bag,
    open_dataset,
)
from diffusion_perception_ros.cli.options import add_pipeline_options, path, sampling_arguments

if TYPE_CHECKING:
    from collections.abc import Iterable

    from diffusion_perception_ros.evaluation.datasets import Dataset
    from diffusion_perception_ros.evaluation.evaluate import Evaluation, Predict
    from diffusion_perception_ros.pipeline import PerceptionPipeline
    from diffusion_perception_ros.sampling.settings import SamplingSettings

_EPILOG = """\
examples:
  diffusion-perception evaluate
  diffusion-perception evaluate --dataset scenes --samples 64 --steps 4 --ensemble 4
  diffusion-perception evaluate --dataset hypersim --path Hypersim --samples 100 --checkpoint generalist
  diffusion-perception evaluate --dataset bag --path scene.mcap --json > result.json
  diffusion-perception evaluate --dataset bag --path scene.mcap --predictions replayed

What the numbers mean, and where they are from, is in docs/evaluation.md.

exit status:
  0 all samples were evaluated, 2 unusable input or arguments, 3 finished, but predictions are missing or their bag is
  cut off, 130 interrupted
"""
_SCENES = 256
_NAMESPACE = "/perception"
_NOISE_SEED = "--noise-seed"


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
    recorded = parser.add_argument_group("predictions of a bag")
    recorded.add_argument(
        "--predictions",
        type=path,
        metavar="BAG",
        help="evaluate what this bag holds, from replay or from a robot, on --dataset bag; no checkpoint is loaded",
    )
    recorded.add_argument(
        "--namespace", metavar="NAME", help=f"in front of the predictions' topics (default: {_NAMESPACE})"
    )
    add_pipeline_options(parser, seed_option=_NOISE_SEED)
    result = parser.add_argument_group("output")
    result.add_argument("--json", action="store_true", help="print one JSON object, and nothing else")
    result.add_argument(
        "--time", action="store_true", help="say how long a sample took, by stage; two runs then differ in that"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate and report."""
    from diffusion_perception_ros.errors import InputError
    from diffusion_perception_ros.evaluation.evaluate import predict_with
    from diffusion_perception_ros.sampling.settings import SamplingSettings

    if args.predictions is not None:
        return _evaluate_recorded(args)
    if args.namespace is not None:
        raise InputError("--namespace is for --predictions only; leave it out.")
    dataset, pipe = open_dataset(args, _SCENES, args.sequences)
    sampling = SamplingSettings(**sampling_arguments(args, seed=args.noise_seed))
    evaluation = _evaluate(args, predict_with(pipe, sampling), dataset, pipe.metadata.tasks)
    if not args.time:
        evaluation = replace(evaluation, stage_ms={})
    _print(args, pipe.metadata.name, evaluation, dataset, _settings(pipe, sampling))
    if pipe.metadata.is_random and not args.json:
        print("The weights are random, not trained: these numbers mean nothing yet.", file=sys.stderr)
    return 0


def _evaluate_recorded(args: argparse.Namespace) -> int:
    """The same with predictions that are there already."""
    from diffusion_perception_ros.errors import InputError
    from diffusion_perception_ros.evaluation.recorded import RecordedPredictions

    check_dataset_options(args)
    _check_recorded(args)
    dataset = open_bag(args, args.sequences)
    with RecordedPredictions(args.predictions, args.namespace or _NAMESPACE) as predictions:
        evaluation = _evaluate(args, predictions, dataset, predictions.tasks)
    if not evaluation.method:
        raise InputError(
            f"none of the predictions in {args.predictions} ({', '.join(predictions.tasks)}) is about one of the "
            f"{len(dataset)} frames with ground truth in {args.path}: their stamps differ."
        )
    _print(args, predictions.name, evaluation, dataset, predictions.settings)
    for damage in predictions.damage:
        print(f"{args.predictions}: {damage}.", file=sys.stderr)
    return 3 if evaluation.missing or predictions.damage else 0


def _check_recorded(args: argparse.Namespace) -> None:
    """Refuse what has no effect on predictions that are there already."""
    from diffusion_perception_ros.errors import InputError

    if args.time:
        raise InputError("--time is about a checkpoint, not about predictions that are there already; leave it out.")
    if args.dataset != "bag":
        raise InputError("--predictions is for --dataset bag only, which has the ground truth; leave it out.")
    model = argparse.ArgumentParser()
    add_pipeline_options(model, seed_option=_NOISE_SEED)
    for name, default in vars(model.parse_args([])).items():
        if getattr(args, name) != default:
            raise InputError(
                f"--{name.replace('_', '-')} has no effect on predictions that are there already; leave it out, or "
                "leave out --predictions."
            )


def _evaluate(args: argparse.Namespace, predict: Predict, dataset: Dataset, tasks: Iterable[str]) -> Evaluation:
    from tqdm import tqdm

    from diffusion_perception_ros.evaluation.evaluate import evaluate

    quiet = True if args.json else None
    return evaluate(
        predict,
        tqdm(dataset, unit="sample", dynamic_ncols=True, disable=quiet),
        tasks,
        tqdm(dataset.sequences(), unit="sequence", dynamic_ncols=True, disable=quiet, leave=False),
    )


def _print(
    args: argparse.Namespace, name: str, evaluation: Evaluation, dataset: Dataset, settings: dict[str, Any]
) -> None:
    from diffusion_perception_ros.evaluation.report import PROTOCOL, Report

    report = Report(name, evaluation, {**dataset.settings, "samples": len(dataset), **settings, **PROTOCOL})
    print(report.to_json() if args.json else report.to_text())


def _settings(pipe: PerceptionPipeline, sampling: SamplingSettings) -> dict[str, Any]:
    from diffusion_perception_ros.request import default_steps

    steps = sampling.num_inference_steps or default_steps(pipe.metadata, sampling.sampler)
    return {
        "checkpoint": pipe.metadata.name,
        "is_random": pipe.metadata.is_random,
        "device": str(pipe.device),
        "dtype": str(pipe.dtype).removeprefix("torch."),
        "codec": pipe.decoding(steps),
        "sampler": sampling.sampler or pipe.metadata.sampler,
        "steps": steps,
        "ensemble": sampling.ensemble_size,
        "flip_members": sampling.flip_members,
        "resize": sampling.resize,
        "noise_seed": sampling.seed,
    }
