"""``diffusion-perception demo``: scenes are recorded, replayed and compared with the truth."""

from __future__ import annotations

import argparse

from diffusion_perception_ros.cli.options import add_checkpoint_options, load_pipeline, path

_EPILOG = """\
examples:
  diffusion-perception demo
  diffusion-perception demo --out elsewhere --scenes 4 --device cpu
  diffusion-perception demo --out mine --checkpoint runs/small/best

Step by step, the same is
  diffusion-perception scene demo/scenes --scenes 24 --frames 4 --width 192 --height 144
  diffusion-perception replay demo/scenes demo/predictions --visible-masks-topic /camera/visible_masks \\
      --max-frame-gap 1 --include-input
  diffusion-perception evaluate --dataset bag --path demo/scenes --predictions demo/predictions

exit status:
  0 all is done, 2 unusable arguments, checkpoint or output, 130 interrupted
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = subparsers.add_parser(
        "demo",
        help="record scenes, replay them, and compare the result with the truth",
        description="Record generated scenes that training never uses as a bag, replay it, compare depth, "
        "flow and masks with the truth, beside baselines that need no learning, and draw a contact sheet.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=path, default="demo", metavar="DIR", help="the folder for all of it (default: %(default)s)"
    )
    parser.add_argument("--scenes", type=int, default=24, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=4, metavar="N", help="of each scene (default: %(default)s)")
    add_checkpoint_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo and say where everything is."""
    from diffusion_perception_ros.demo import DemoSettings, run_demo

    settings = DemoSettings(args.scenes, args.frames)
    pipe = load_pipeline(args)
    result = run_demo(args.out, pipe, settings)
    print(result.text)
    print(f"\n{args.scenes} scenes with {args.frames} frames each in {result.seconds:.0f} s, all in {args.out}:")
    print("  contact_sheet.png         frames, predictions, truth and errors side by side")
    print("  scenes, predictions       the bags, with the truth and with what was made of it")
    print("  report.txt, report.json   the figures above")
    return result.summary.exit_status
