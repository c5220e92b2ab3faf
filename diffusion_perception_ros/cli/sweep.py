"""``diffusion-perception sweep``: what more test-time compute buys, for this checkpoint on this device."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffusion_perception_ros.cli.dataset_options import add_dataset_options, open_dataset, positive
from diffusion_perception_ros.cli.options import add_checkpoint_options

if TYPE_CHECKING:
    from diffusion_perception_ros.evaluation.datasets import Dataset
    from diffusion_perception_ros.pipeline import PerceptionPipeline

_EPILOG = """\
examples:
  diffusion-perception sweep --out sweep
  diffusion-perception sweep --steps 1,2,4 --ensembles 1 --samplers ddim_trailing,one_step --schedules scaled_linear
  diffusion-perception sweep --dataset hypersim --path Hypersim --samples 50 --checkpoint generalist --out sweep

OUT/sweep.csv has a row for each combination, as soon as it is measured; OUT/sweep.png shows accuracy against
milliseconds, the Pareto front marked. What the numbers mean is in docs/evaluation.md.

exit status:
  0 all combinations that are possible were measured, 2 unusable input or arguments, 130 interrupted; what was
  measured until then is in OUT/sweep.csv
"""
# Of any dataset: they are kept in memory.
_SAMPLES = 32


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = subparsers.add_parser(
        "sweep",
        help="measure what steps, ensembles, samplers and noise schedules buy",
        description="Measure accuracy and milliseconds of every combination of sampler, noise schedule, steps and "
        "ensemble size, for this checkpoint on this device.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    axes = parser.add_argument_group("what to combine (comma-separated)")
    axes.add_argument("--steps", type=_numbers, default=(1, 2, 4, 8), metavar="LIST", help="(default: 1,2,4,8)")
    axes.add_argument("--ensembles", type=_numbers, default=(1, 4), metavar="LIST", help="members (default: 1,4)")
    axes.add_argument(
        "--samplers",
        type=_names,
        default=("ddim", "ddim_trailing", "dpm_solver", "one_step", "one_step_genpercept"),
        metavar="LIST",
        help="(default: all, ddim,ddim_trailing,dpm_solver,one_step,one_step_genpercept)",
    )
    axes.add_argument(
        "--schedules",
        type=_names,
        default=("linear", "scaled_linear", "squaredcos_cap_v2"),
        metavar="LIST",
        help="noise schedules (default: all, linear,scaled_linear,squaredcos_cap_v2)",
    )
    add_dataset_options(parser, str(_SAMPLES))
    model = add_checkpoint_options(parser)
    model.add_argument(
        "--flip-members", action="store_true", help="every second ensemble member sees the mirrored image"
    )
    model.add_argument("--resize", choices=("squash", "letterbox"), default="squash", help="(default: squash)")
    model.add_argument("--noise-seed", type=int, default=0, metavar="N", help="of the noise (default: %(default)s)")
    result = parser.add_argument_group("output")
    result.add_argument("--out", type=Path, default=Path("sweep"), metavar="DIR", help="(default: %(default)s)")
    result.add_argument("--overwrite", action="store_true", help="replace the results of another sweep")
    parser.set_defaults(run=run, samples=_SAMPLES)


def run(args: argparse.Namespace) -> int:
    """Measure, write and say what was found."""
    from tqdm import tqdm

    from diffusion_perception_ros.evaluation.plot import check_plotting, draw_sweep
    from diffusion_perception_ros.evaluation.sweep import Measurement, conclusion, measure, plan
    from diffusion_perception_ros.evaluation.sweep_files import SweepCsv, sweep_table
    from diffusion_perception_ros.sampling.settings import SamplingSettings

    check_plotting()
    _make_folder(args.out, args.overwrite)
    dataset, pipe = open_dataset(args, _SAMPLES)
    settings, skipped = plan(pipe, args.samplers, args.schedules, args.steps, args.ensembles, args.flip_members)
    _print_skipped(skipped)
    own_schedule = pipe.scheduler_config["beta_schedule"]
    sampling = SamplingSettings(flip_members=args.flip_members, resize=args.resize, seed=args.noise_seed)
    samples = list(tqdm(dataset, desc="reading", unit="sample", dynamic_ncols=True, disable=None, leave=False))
    measurements: list[Measurement] = []
    with (
        SweepCsv(args.out / "sweep.csv", own_schedule) as table,
        tqdm(total=len(settings) * len(samples), unit="sample", dynamic_ncols=True, disable=None) as bar,
    ):
        for setting in settings:
            bar.set_description(str(setting))
            measurements.append(measure(pipe, setting, sampling, samples, not measurements, bar.update))
            table.write(measurements[-1])
    draw_sweep(args.out / "sweep.png", _title(pipe, dataset), measurements, own_schedule)
    print(sweep_table(measurements))
    print(f"\n* on the Pareto front; all {len(measurements)} combinations are in {args.out / 'sweep.csv'}")
    for task in measurements[0].evaluation.method:
        print(conclusion(measurements, task))
    if pipe.metadata.is_random:
        print("The weights are random, not trained: these numbers mean nothing yet.", file=sys.stderr)
    return 0


def _make_folder(out: Path, overwrite: bool) -> None:
    from diffusion_perception_ros.errors import InputError

    if (out / "sweep.csv").exists() and not overwrite:
        raise InputError(f"{out} holds another sweep; choose another folder or replace it with --overwrite.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {out} cannot be made: {error.strerror}.") from None


def _print_skipped(skipped: Mapping[str, Sequence[str]]) -> None:
    for reason, settings in skipped.items():
        # Without the advice behind the semicolon, which is for one call.
        print(f"skipped {len(settings)}: {reason.partition(';')[0]}", file=sys.stderr)


def _title(pipe: PerceptionPipeline, dataset: Dataset) -> str:
    import torch

    device = torch.cuda.get_device_name(pipe.device) if pipe.device.type == "cuda" else str(pipe.device)
    name = pipe.metadata.name + (" (not trained)" if pipe.metadata.is_random else "")
    dtype = str(pipe.dtype).removeprefix("torch.")
    return f"{name} on {device}, {dtype}: {len(dataset)} samples of {dataset.settings['dataset']}"


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(positive(part) for part in text.split(",")))


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
