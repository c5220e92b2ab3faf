"""``diffusion-perception benchmark``: how fast it is, where the time goes, and what the released way would take."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffusion_perception_ros.cli.dataset_options import not_negative, positive, size
from diffusion_perception_ros.cli.options import EMBEDDED, path, task_names

if TYPE_CHECKING:
    from diffusion_perception_ros.benchmarking.configuration import Configuration

_EPILOG = """\
examples:
  diffusion-perception benchmark
  diffusion-perception benchmark --tasks depth,flow --tasks depth,flow,amodal --reference
  diffusion-perception benchmark --random 12x384 --resolution 512 --codec kl,tiny --steps 1,10 --reference
  diffusion-perception benchmark --random 28x1152 --dtype bfloat16 --codec kl,tiny --compile no,yes --device cuda

A camera's frames go through PerceptionStream, as in the node: each is encoded once. Rows that differ only in codec,
decoder, dtype and compilation take turns of five frames, the first of which does not count, or of one frame where that
takes seconds; and with --reference the released way takes its turn: the same weights, frames and noise in float32, one
task and one image after the other, everything encoded anew, one expert after the other; with the KL autoencoder where
ours has the tiny one, and always with the codec's decoder. Numbers are medians, with quartiles in parentheses. Memory
is that of the weights and the peak of a frame beyond it, of the device or, on a CPU, of the process.

exit status:
  0 all was measured, 2 unusable input or arguments, or nothing could be measured, 3 some could not, 130 interrupted
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = subparsers.add_parser(
        "benchmark",
        help="measure times, memory and what the device could do, beside the released way",
        description="Measure every combination of checkpoint, resolution, tasks, steps, dtype, codec and compilation.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    axes = parser.add_argument_group("what to combine (LIST: comma-separated)")
    axes.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="FOLDER",
        help=f"a converted checkpoint, or {EMBEDDED}; may be given several times (default: {EMBEDDED})",
    )
    axes.add_argument(
        "--random",
        action="append",
        default=[],
        metavar="SIZE",
        help="a generalist with random weights, blocks by width: 12x384, or 28x1152 for the released size; likewise",
    )
    axes.add_argument(
        "--resolution",
        type=_numbers,
        default=(None,),
        metavar="LIST",
        help="side of the network's square (default: the checkpoint's; 512 for random ones)",
    )
    axes.add_argument(
        "--tasks",
        type=task_names,
        action="append",
        default=[],
        metavar="TASKS",
        help="of each frame, comma-separated; may be given several times (default: depth,flow)",
    )
    axes.add_argument("--steps", type=_numbers, default=(1,), metavar="LIST", help="denoising steps (default: 1)")
    axes.add_argument(
        "--dtype",
        type=_choices("float32", "bfloat16", "float16"),
        default=("float32",),
        metavar="LIST",
        help="float32, bfloat16, float16 (default: float32)",
    )
    axes.add_argument(
        "--codec",
        type=task_names,
        default=("own",),
        metavar="LIST",
        help="own, the checkpoint's; kl or tiny, of Stable Diffusion's sizes with random weights; or a folder with a "
        "vae/ (default: own)",
    )
    axes.add_argument(
        "--decoder",
        type=_choices("own", "full", "latent", "features"),
        default=("own",),
        metavar="LIST",
        help="own, the checkpoint's default; full, latent, features (default: own)",
    )
    axes.add_argument(
        "--compile", type=_choices("no", "yes"), default=("no",), metavar="LIST", help="no, yes (default: no)"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    how.add_argument("--reference", action="store_true", help="also measure the released way")
    how.add_argument("--size", type=size, default=(640, 480), metavar="WIDTHxHEIGHT", help="(default: 640x480)")
    how.add_argument("--instances", type=positive, default=1, metavar="N", help="objects for amodal (default: 1)")
    how.add_argument("--rounds", type=positive, default=20, metavar="N", help="most frames (default: %(default)s)")
    how.add_argument(
        "--seconds",
        type=float,
        default=60.0,
        metavar="S",
        help="begin no further frame after so many, for each combination of checkpoint, resolution, tasks and steps "
        "(default: %(default)g)",
    )
    how.add_argument(
        "--warm-up", type=not_negative, default=3, metavar="N", help="frames before (default: %(default)s)"
    )
    result = parser.add_argument_group("output")
    result.add_argument("--json", action="store_true", help="print one JSON object, and nothing else")
    result.add_argument("--out", type=path, metavar="FILE", help="also write that JSON to a file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print and write."""
    from diffusion_perception_ros.benchmarking.benchmark import measure_all
    from diffusion_perception_ros.benchmarking.clip import Clip
    from diffusion_perception_ros.benchmarking.configuration import RANDOM, combine, random_sizes
    from diffusion_perception_ros.benchmarking.machine import describe_machine
    from diffusion_perception_ros.benchmarking.measure import Effort
    from diffusion_perception_ros.device import resolve_device

    checkpoints = [*args.checkpoint, *(RANDOM + size for size in args.random)] or [EMBEDDED]
    for checkpoint in checkpoints:
        random_sizes(checkpoint)
    device = resolve_device(args.device)
    configurations = combine(
        checkpoints,
        args.resolution,
        args.tasks or [("depth", "flow")],
        args.steps,
        args.dtype,
        args.codec,
        [choice == "yes" for choice in args.compile],
        args.decoder,
    )
    report: dict[str, Any] = {
        "command": shlex.join(["diffusion-perception", *sys.argv[1:]]),
        "machine": describe_machine(device),
        "frame": {"width": args.size[0], "height": args.size[1], "instances": args.instances},
    }
    clip = Clip(args.size[0], args.size[1], args.instances)
    effort = Effort(args.rounds, args.seconds, args.warm_up)
    report["rows"] = list(measure_all(configurations, device, clip, effort, args.reference, _say))
    text = json.dumps(report, indent=2)
    if args.out is not None:
        _write(args.out, text)
    print(text) if args.json else _print(report)
    failed = sum("error" in row for row in report["rows"])
    return 0 if not failed else 3 if failed < len(report["rows"]) else 2


def _say(configuration: Configuration) -> None:
    """On stderr, what comes next."""
    from diffusion_perception_ros.benchmarking.table import describe

    print(f"measuring {describe(configuration.to_dict())} ...", file=sys.stderr)


def _print(report: dict[str, Any]) -> None:
    from diffusion_perception_ros.benchmarking.table import differences, rooflines, table

    machine, rows = report["machine"], report["rows"]
    load = "" if machine["load"] is None else f", load {machine['load']}"
    print(f"{machine['device']}, {machine['threads']} threads{load}, torch {machine['torch']}, {machine['date']}\n")
    print(table(rows))
    shares = rooflines(rows)
    if shares:
        print("\n" + shares)
    different = list(differences(rows))
    if different:
        print("\nmean difference from the released way (depth of 1, flow in pixels, amodal of all pixels):")
        print("\n".join(different))


def _write(file: Path, text: str) -> None:
    from diffusion_perception_ros.errors import InputError

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}.") from None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(positive(part) for part in text.split(",")))


def _choices(*allowed: str) -> Any:
    def parse(text: str) -> tuple[str, ...]:
        chosen = task_names(text)
        wrong = [name for name in chosen if name not in allowed]
        if wrong or not chosen:
            raise argparse.ArgumentTypeError(f"{text!r}: choose from {', '.join(allowed)}")
        return tuple(dict.fromkeys(chosen))

    return parse
