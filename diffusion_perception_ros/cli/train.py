"""``diffusion-perception train``: a checkpoint from a YAML file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

_EPILOG = """\
examples:
  diffusion-perception train config/training/small.yaml
  diffusion-perception train config/training/small.yaml --out runs/small --resume
  diffusion-perception train config/training/codec.yaml --out runs/codec
  diffusion-perception train config/training/small_features.yaml --out runs/decoder
  accelerate launch --multi-gpu -m diffusion_perception_ros train config/training/small.yaml

Ctrl-C ends the run after the step in progress; --resume goes on from there, or from the last state before a crash. The
output holds best/ and last/, which are checkpoints for --checkpoint (image codecs for model.codec, if the file says
stage: codec), logs, sample sheets and the state.

exit status:
  0 all steps were taken, or the time that the file allows is over, 2 unusable input or arguments, 130 interrupted
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = subparsers.add_parser(
        "train",
        help="train a checkpoint on generated scenes and on datasets",
        description="Train a checkpoint on generated scenes, and on datasets in their official layouts, as a YAML file "
        "says.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", metavar="CONFIG.yaml", type=Path, help="what to train, and how")
    parser.add_argument("--out", metavar="DIR", type=Path, help="where to write (default: runs/ and the file's name)")
    parser.add_argument("--resume", action="store_true", help="go on from the last state in the output folder")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train and tell how it ended."""
    from diffusion_perception_ros.training import load_config, train

    config = load_config(args.config)
    out: Path = args.out or Path("runs") / args.config.stem
    outcome = train(config, out, resume=args.resume)
    words = {"finished": "finished", "time": "its time is over", "interrupted": "interrupted"}[outcome.reason]
    more = "" if outcome.reason == "finished" else "; --resume goes on from there"
    print(f"{out}: {words} at step {outcome.step} after {outcome.minutes:.1f} minutes{more}", file=sys.stderr)
    return 130 if outcome.reason == "interrupted" else 0
