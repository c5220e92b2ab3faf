"""The options that all commands with a checkpoint share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffusion_perception_ros.errors import InputError

if TYPE_CHECKING:
    from diffusion_perception_ros.pipeline import PerceptionPipeline

EMBEDDED = "embedded"


def add_checkpoint_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The checkpoint and where it runs; returns the group, for more about the model."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--checkpoint",
        default=EMBEDDED,
        metavar="FOLDER",
        help=f"a converted checkpoint (default: {EMBEDDED}, the small one that comes with this package)",
    )
    group.add_argument(
        "--device", default="auto", help="auto (CUDA where there is one), cpu, cuda, cuda:1, ... (default: auto)"
    )
    group.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="type of weights and activations (default: %(default)s)",
    )
    group.add_argument(
        "--codec",
        type=path,
        metavar="FOLDER",
        help="an image codec for the same latents instead of the checkpoint's, such as a released tiny autoencoder",
    )
    group.add_argument(
        "--decoder",
        choices=("full", "latent", "features"),
        help="what decodes the answers: the codec (full), or one in the checkpoint's folder, which reads latents, or "
        "the transformer's features after one step (default: the checkpoint's)",
    )
    return group


def add_pipeline_options(parser: argparse.ArgumentParser, seed_option: str = "--seed") -> None:
    """The checkpoint, where it runs, and how it is sampled.

    Args:
        parser: Where to add them.
        seed_option: What the seed of the noise is called, where ``--seed`` means another.
    """
    group = add_checkpoint_options(parser)
    group.add_argument("--steps", type=int, metavar="N", help="denoising steps (default: the checkpoint's)")
    group.add_argument(
        "--sampler",
        metavar="NAME",
        help="ddim, ddim_trailing, dpm_solver, one_step or one_step_genpercept (default: the checkpoint's)",
    )
    group.add_argument(
        "--ensemble", type=int, default=1, metavar="N", help="ensemble members; 3 and more give an uncertainty"
    )
    group.add_argument(
        "--flip-members", action="store_true", help="every second ensemble member sees the mirrored image"
    )
    group.add_argument(
        "--resize",
        choices=("squash", "letterbox"),
        default="squash",
        help="how images are fitted to the network's square (default: squash)",
    )
    group.add_argument(
        seed_option,
        type=int,
        default=0,
        metavar="N",
        help="of the noise, the same for every frame (default: %(default)s)",
    )


def sampling_arguments(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """What ``add_pipeline_options`` brought in, under the names of ``SamplingSettings``."""
    return {
        "num_inference_steps": args.steps,
        "sampler": args.sampler,
        "ensemble_size": args.ensemble,
        "flip_members": args.flip_members,
        "resize": args.resize,
        "seed": seed,
    }


def path(text: str) -> Path:
    """A path that is not empty, which pathlib takes for the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return Path(text)


def task_names(text: str) -> tuple[str, ...]:
    """A comma-separated list of tasks."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def load_pipeline(args: argparse.Namespace) -> PerceptionPipeline:
    """The pipeline that the options of ``add_checkpoint_options`` ask for.

    Raises:
        InputError: The checkpoint, its decoder, the codec or the device is unusable.
    """
    import torch

    from diffusion_perception_ros.pipeline import PerceptionPipeline

    torch_dtype: torch.dtype = getattr(torch, args.dtype)
    parts = {"codec": args.codec, "decoder": args.decoder}
    if args.checkpoint == EMBEDDED:
        return PerceptionPipeline.embedded(args.device, torch_dtype, **parts)
    if not args.checkpoint:
        raise InputError("--checkpoint is empty; name a converted checkpoint's folder, or leave the option out.")
    return PerceptionPipeline.from_pretrained(Path(args.checkpoint), args.device, torch_dtype, **parts)
