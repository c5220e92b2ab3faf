"""``diffusion-perception scene``: a synthetic scene becomes a bag of camera images with exact ground truth."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

_EPILOG = """\
examples:
  diffusion-perception scene scene.mcap --seed 900000007 --frames 30
  diffusion-perception scene scene_bag --width 640 --height 480 --rate 30 --frames 90
  diffusion-perception scene scenes --scenes 24 --frames 4
  diffusion-perception replay scene.mcap out --visible-masks-topic /camera/visible_masks

The bag holds what a robot has,
  /camera/image_raw, /camera/camera_info and /camera/visible_masks (label images: 0 none, k instance k),
and what only a simulator knows:
  /ground_truth/depth/image (32FC1, metres along z, infinite in the sky), /ground_truth/depth/camera_info,
  /ground_truth/flow (NaN where the place leaves the image or is hidden in the next frame),
  /ground_truth/amodal/masks, /ground_truth/normals (32FC3, camera frame) and the poses of the camera and of the
  instances on /tf. The last frame of a scene has no flow. With several scenes there is a gap of two seconds or more
  between them, for replay's --max-frame-gap. Equal runs write equal bytes.

exit status:
  0 all frames were recorded, 2 unusable arguments or output, 130 interrupted, which leaves no bag
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = subparsers.add_parser(
        "scene",
        help="record a synthetic scene with exact ground truth as a bag",
        description="Record a synthetic scene with exact ground truth as a bag. No ROS is needed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "output", metavar="OUTPUT", type=Path, help="a rosbag2 folder, or, ending in .mcap, one file that is a bag, too"
    )
    parser.add_argument("--seed", type=int, default=900_000_000, help="which scene is the first (default: %(default)s)")
    parser.add_argument(
        "--scenes",
        type=int,
        default=1,
        metavar="N",
        help="how many, of consecutive seeds, one after the other (default: %(default)s)",
    )
    parser.add_argument("--frames", type=int, default=30, metavar="N", help="of each scene (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=10.0, metavar="HZ", help="frames a second (default: %(default)s)")
    parser.add_argument("--width", type=int, default=320, metavar="PIXELS", help="(default: %(default)s)")
    parser.add_argument("--height", type=int, default=240, metavar="PIXELS", help="(default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="where to render: auto, cpu, cuda, ... (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Render and record."""
    import tempfile

    from diffusion_perception_ros.replay.writer import check_output

    _check(args)
    if args.output.suffix != ".mcap":
        # There is no input to protect, but the program itself.
        check_output(Path(__file__), args.output, args.overwrite)
        _record(args, args.output)
        return 0
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{args.output.name}.partial-", dir=args.output.parent) as folder:
        bag = Path(folder, "bag")
        _record(args, bag)
        next(bag.glob("*.mcap")).replace(args.output)
    return 0


def _check(args: argparse.Namespace) -> None:
    from diffusion_perception_ros.errors import InputError

    if min(args.scenes, args.frames) < 1 or not args.rate > 0 or args.seed < 0:
        raise InputError("--scenes, --frames and --rate must be positive, and --seed must not be negative.")
    if args.output.suffix == ".mcap" and args.output.exists() and (args.output.is_dir() or not args.overwrite):
        raise InputError(f"the output {args.output} exists already; choose another or replace it with --overwrite.")


def _record(args: argparse.Namespace, output: Path) -> None:
    from tqdm import tqdm

    from diffusion_perception_ros.device import resolve_device
    from diffusion_perception_ros.replay.scene_bag import record_scenes
    from diffusion_perception_ros.replay.writer import BagWriter
    from diffusion_perception_ros.scenes import draw_scene

    device = resolve_device(args.device)
    seeds = range(args.seed, args.seed + args.scenes)
    frames = args.scenes * args.frames
    with (
        BagWriter(output, "mcap", args.overwrite) as bag,
        tqdm(total=frames, unit="frame", dynamic_ncols=True, disable=None) as bar,
    ):
        record_scenes(bag, seeds, args.frames, (args.height, args.width), args.rate, device, bar.update)
    what = f"scenes {seeds[0]} to {seeds[-1]}"
    if args.scenes == 1:
        what = f"scene {args.seed} ({', '.join(draw_scene(args.seed).names)})"
    print(f"{args.output}: {frames} frames of {what}", file=sys.stderr)
