"""The options of the commands that compare predictions with the truth of a dataset."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from diffusion_perception_ros.cli.options import load_pipeline

if TYPE_CHECKING:
    from diffusion_perception_ros.evaluation.datasets import Bag, Dataset
    from diffusion_perception_ros.pipeline import PerceptionPipeline

DATASETS = ("scenes", "hypersim", "chairs", "pix2gestalt", "bag")
_TOPICS = ("image", "depth", "flow", "visible_masks", "amodal", "normals")


def add_dataset_options(parser: argparse.ArgumentParser, samples: str) -> argparse._ArgumentGroup:
    """What to evaluate on.

    Args:
        parser: Where to add them.
        samples: How many there are by default, for the help.

    Returns:
        The group, for more about the dataset.
    """
    group = parser.add_argument_group("dataset")
    group.add_argument("--dataset", choices=DATASETS, default="scenes", help="(default: %(default)s)")
    group.add_argument(
        "--path", type=Path, metavar="PATH", help="where the dataset is: its folder, or the bag; scenes have none"
    )
    group.add_argument(
        "--samples",
        type=positive,
        metavar="N",
        help=f"how many: the first of scenes and of a bag, of others spread evenly (default: {samples})",
    )
    group.add_argument(
        "--seed",
        type=not_negative,
        metavar="N",
        help="the first scene; the others follow. Those below 900000000 may have been trained on (default: 900000000)",
    )
    group.add_argument(
        "--size", type=size, metavar="WIDTHxHEIGHT", help="of scenes, in pixels (default: the checkpoint's square)"
    )
    topics = parser.add_argument_group("topics of a bag")
    topics.add_argument("--image-topic", metavar="TOPIC", help="the camera (default: the only one)")
    topics.add_argument(
        "--depth-topic", metavar="TOPIC", help="true depth, 16UC1 mm or 32FC1 m (default: the only one)"
    )
    topics.add_argument(
        "--flow-topic", metavar="TOPIC", help="true flow, OpticalFlow or a 32FC2 image (default: the only one)"
    )
    topics.add_argument(
        "--visible-masks-topic", metavar="TOPIC", help="label images of visible masks, for --amodal-topic"
    )
    topics.add_argument("--amodal-topic", metavar="TOPIC", help="true AmodalMaskArray (default: the only one)")
    topics.add_argument("--normals-topic", metavar="TOPIC", help="true normals, 32FC3 (default: the only one)")
    return group


def open_dataset(args: argparse.Namespace, scenes: int, sequences: int = 0) -> tuple[Dataset, PerceptionPipeline]:
    """The dataset and the pipeline that the arguments ask for; files first, so that their faults do not wait.

    Args:
        args: Of the command line.
        scenes: How many, where the arguments do not say.
        sequences: How many runs of frames flicker is measured on.

    Raises:
        InputError: The dataset or the pipeline is unusable, or options do not fit the dataset.
    """
    from diffusion_perception_ros.evaluation.datasets import FlyingChairs, Hypersim, Pix2Gestalt, Scenes
    from diffusion_perception_ros.scenes import EVALUATION_SEED

    check_dataset_options(args)
    dataset: Dataset
    if args.dataset == "scenes":
        pipe = load_pipeline(args)
        width, height = args.size or (pipe.metadata.resolution, pipe.metadata.resolution)
        seed = EVALUATION_SEED if args.seed is None else args.seed
        return Scenes(args.samples or scenes, seed, height, width, sequences, pipe.device), pipe
    if args.dataset == "bag":
        dataset = open_bag(args, sequences)
    else:
        readers: dict[str, Callable[[Path, int | None], Dataset]]
        readers = {"hypersim": Hypersim, "chairs": FlyingChairs, "pix2gestalt": Pix2Gestalt}
        dataset = readers[args.dataset](args.path, args.samples)
    return dataset, load_pipeline(args)


def open_bag(args: argparse.Namespace, sequences: int = 0) -> Bag:
    """The bag with ground truth that the arguments ask for.

    Raises:
        InputError: There is no such bag, or it is unusable.
    """
    from diffusion_perception_ros.evaluation.datasets import Bag, BagTopics

    topics = BagTopics(**{role: getattr(args, f"{role}_topic") for role in _TOPICS})
    return Bag(args.path, topics, args.samples, sequences)


def check_dataset_options(args: argparse.Namespace) -> None:
    """Refuse options that would have no effect.

    Raises:
        InputError: There is one.
    """
    from diffusion_perception_ros.errors import InputError

    is_scenes = args.dataset == "scenes"
    if is_scenes and args.path is not None:
        raise InputError("--dataset scenes is rendered and has no --path; name another dataset, or leave --path out.")
    if not is_scenes and args.path is None:
        raise InputError(f"--dataset {args.dataset} needs --path, where it is.")
    for option in ("seed", "size"):
        if not is_scenes and getattr(args, option) is not None:
            raise InputError(f"--{option} is for --dataset scenes only; leave it out.")
    for role in _TOPICS:
        if args.dataset != "bag" and getattr(args, f"{role}_topic") is not None:
            raise InputError(f"--{role.replace('_', '-')}-topic is for --dataset bag only; leave it out.")


def positive(text: str) -> int:
    """A whole number above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return number


def not_negative(text: str) -> int:
    """A whole number."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return number


def size(text: str) -> tuple[int, int]:
    """Width and height."""
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text} is no size such as 320x240")
    return int(match[1]), int(match[2])
