"""``diffusion-perception demo``: a short bag, replayed, and a picture of the result."""

from __future__ import annotations

import argparse
from pathlib import Path

_EPILOG = """\
examples:
  diffusion-perception demo
  diffusion-perception demo --out elsewhere --frames 2 --device cpu
"""
# Recorded bags beside a source checkout; an installed package has none, and renders its frames.
_BAGS = Path(__file__).resolve().parents[2].parent / "shared" / "bags"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = subparsers.add_parser(
        "demo",
        help="replay a short bag and draw a contact sheet",
        description="Write a short bag, replay it with the embedded checkpoint, and draw a contact sheet: input, "
        "depth, flow and masks side by side. The frames are recorded ones where there are bags in ../shared/bags "
        "beside the source checkout, rendered ones elsewhere.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, default=Path("demo"), metavar="DIR", help="the folder for all of it (default: %(default)s)"
    )
    parser.add_argument(
        "--frames", type=int, default=4, metavar="N", help="frames in the contact sheet (default: %(default)s)"
    )
    parser.add_argument(
        "--device", default="auto", help="auto (CUDA where there is one), cpu, cuda, cuda:1, ... (default: auto)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo and say where everything is."""
    from diffusion_perception_ros.demo import run_demo
    from diffusion_perception_ros.pipeline import PerceptionPipeline

    pipe = PerceptionPipeline.embedded(args.device)
    result = run_demo(args.out, args.frames, pipe, bags=_BAGS)
    summary = result.summary
    print(
        f"{summary.frames_processed} {'recorded' if result.recorded else 'rendered'} frames in {summary.seconds:.1f} s"
    )
    if summary.checkpoint_is_random:
        print("The weights are random, not trained: these predictions mean nothing yet.")
    print(f"input bag      {result.input_bag}")
    print(f"output bag     {result.output_bag}")
    print(f"contact sheet  {result.contact_sheet}")
    return summary.exit_status
