"""``diffusion-perception convert``: released weights to a folder in diffusers' layout."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from diffusion_perception_ros.errors import InputError

_EPILOG = """examples:
  diffusion-perception convert dit_moe_generalist.pt stable-diffusion-2/ generalist/ --dtype bfloat16
  diffusion-perception replay drive.mcap out --checkpoint generalist/ --sampler ddim_trailing --steps 4

exit status:
  0 the folder is complete, 2 unusable input or arguments, 130 interrupted, which leaves no folder
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "convert",
        help="turn the released weights into a checkpoint folder",
        description="Turn the released weights (.pt) and a stable-diffusion-2 folder into one checkpoint folder: "
        "safetensors in diffusers' layout, with the checkpoint's own metadata in perception.json.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("official", type=Path, metavar="OFFICIAL", help="the released .pt file")
    parser.add_argument("stable_diffusion", type=Path, metavar="SD_DIR", help="folder with vae/ and scheduler/")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="type of the written weights (default: %(default)s)",
    )
    parser.add_argument(
        "--num-attention-heads",
        type=int,
        default=16,
        metavar="N",
        help="heads, not stored in the file (default: %(default)s, as in all released models)",
    )
    parser.add_argument(
        "--num-experts-per-tok",
        type=int,
        default=2,
        metavar="K",
        help="experts per token, not stored in the file (default: %(default)s, likewise)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a checkpoint folder that is there already")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert; the folder appears under its name only when it is complete."""
    import torch

    from diffusion_perception_ros.checkpoint import convert_official

    out: Path = args.out
    try:
        if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
            if not args.overwrite:
                raise InputError(f"{out} exists already; choose another name or use --overwrite.")
            if not (out / "perception.json").is_file() or out.is_symlink():
                raise InputError(f"{out} exists already and is no checkpoint folder; choose another name.")
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.partial-", dir=out.parent) as partial:
            complete = Path(partial) / "checkpoint"
            metadata = convert_official(
                args.official,
                args.stable_diffusion,
                complete,
                num_attention_heads=args.num_attention_heads,
                num_experts_per_tok=args.num_experts_per_tok,
                torch_dtype=getattr(torch, args.dtype),
            )
            if out.exists():
                shutil.rmtree(out)
            complete.rename(out)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}.") from None
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"{out}: {metadata.name}, {metadata.resolution}x{metadata.resolution}, tasks {', '.join(metadata.tasks)}")
    print(f"{size / 1e6:.1f} MB, {args.dtype}")
    return 0
