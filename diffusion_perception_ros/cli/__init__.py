"""The command line program ``diffusion-perception``: one file per subcommand."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import signal
import sys
from collections.abc import Sequence

from diffusion_perception_ros import __version__
from diffusion_perception_ros.errors import InputError

PROGRAM = "diffusion-perception"
# Each names a module here with `add_parser` and `run`. These modules import torch and the like only inside `run`.
COMMANDS = ("predict", "replay", "convert", "demo", "scene", "evaluate", "sweep", "benchmark", "train", "scaling")
# The pipeline's names of what some commands have options for.
_OPTIONS = {
    "num_inference_steps": "steps",
    "ensemble_size": "ensemble",
    "flip_members": "flip_members",
    "num_attention_heads": "num_attention_heads",
    "num_experts_per_tok": "num_experts_per_tok",
}

_EPILOG = f"""\
examples:
  {PROGRAM} replay drive_2024_05_01 drive_2024_05_01_perception
  {PROGRAM} replay --help

exit status:
  0 everything was processed, 2 unusable input or arguments, 3 finished, but parts of the input were skipped or
  cut off, 130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        argv: Arguments without the program's name; ``sys.argv[1:]`` by default.

    Returns:
        The exit status.

    Raises:
        SystemExit: With status 2 if the arguments cannot be parsed, with 0 after ``--help`` and ``--version``.
    """
    # As Ctrl-C does, so that half-written output is removed. Windows has no SIGHUP; under nohup it is ignored.
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        return _run(_parser().parse_args(argv))
    except KeyboardInterrupt:
        # An interrupt within `exec` of a text, which dataclasses do while they are imported, marks the process to die
        # of the signal however it ends; the next such `exec` takes the mark away.
        exec("")
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output is gone. Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(args: argparse.Namespace) -> int:
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except InputError as error:
        print(f"{PROGRAM}: error: {_in_options(str(error), args)}", file=sys.stderr)
        return 2
    return status


def _in_options(message: str, args: argparse.Namespace) -> str:
    """The message with the options of this command in the place of the pipeline's arguments."""
    for argument, option in _OPTIONS.items():
        if hasattr(args, option):
            message = re.sub(rf"\b{argument}(=True)?\b", "--" + option.replace("_", "-"), message)
    return message


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Depth, optical flow and amodal masks from one diffusion model.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        importlib.import_module(f"{__name__}.{command}").add_parser(subparsers)
    return parser
