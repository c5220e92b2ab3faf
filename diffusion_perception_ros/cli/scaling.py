"""``diffusion-perception scaling``: what more training compute bought, over several runs."""

from __future__ import annotations

import argparse
from pathlib import Path

_EPILOG = """\
examples:
  diffusion-perception scaling runs/a1 runs/a2 runs/a3
  diffusion-perception scaling runs/* --final --out scaling
  diffusion-perception scaling runs/a1 runs/a2 runs/a3 --json > laws.json

OUT/scaling.png has a panel for the loss and each metric, OUT/scaling.json the fits, OUT/scaling.csv the points. What is
fitted to what is in docs/training.md.

exit status:
  0 the laws were fitted, 2 unusable input or arguments
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = subparsers.add_parser(
        "scaling",
        help="fit power laws of training compute to several runs",
        description="Fit power laws of training compute to the loss and the metrics of several training runs, and plot "
        "them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="folders that `train` has written")
    parser.add_argument(
        "--final", action="store_true", help="fit to the end of each run, not to the frontier of all their points"
    )
    result = parser.add_argument_group("output")
    result.add_argument("--out", type=Path, default=Path("scaling"), metavar="DIR", help="(default: %(default)s)")
    result.add_argument("--json", action="store_true", help="print one JSON object, and nothing else")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fit, write and print."""
    from diffusion_perception_ros.errors import InputError
    from diffusion_perception_ros.evaluation.plot import check_plotting
    from diffusion_perception_ros.training.scaling.frontier import measure_scaling
    from diffusion_perception_ros.training.scaling.plot import draw_scaling
    from diffusion_perception_ros.training.scaling.report import to_json, to_table, write_points
    from diffusion_perception_ros.training.scaling.runs import BINS_PER_DECADE, WARM_UP

    check_plotting()
    scalings = measure_scaling(args.runs, final=args.final)
    settings = {
        "runs": [str(folder) for folder in args.runs],
        "fitted_to": "ends" if args.final else "frontier",
        "warm_up": WARM_UP,
        "bins_per_decade": BINS_PER_DECADE,
    }
    text = to_json(scalings, settings)
    what = f"the ends of {len(args.runs)} runs" if args.final else f"the compute frontier of {len(args.runs)} runs"
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "scaling.json").write_text(text + "\n", encoding="utf-8")
        write_points(args.out / "scaling.csv", scalings)
        draw_scaling(args.out / "scaling.png", f"Power laws through {what}", scalings)
    except OSError as error:
        raise InputError(f"{error.filename or args.out} cannot be written: {error.strerror}.") from None
    if args.json:
        print(text)
    else:
        print(f"constant + coefficient x FLOPs ^ exponent, through {what}:\n")
        print(to_table(scalings))
        print(f"\nThe plot is {args.out / 'scaling.png'}.")
    return 0
