"""``diffusion-perception scene``: a synthetic scene becomes a bag of camera images with exact ground truth."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusion_perception_ros.conversions.fields import Fields
    from diffusion_perception_ros.scenes import Frames, Scene

_EPILOG = """\
examples:
  diffusion-perception scene scene.mcap --seed 900000007 --frames 30
  diffusion-perception scene scene_bag --width 640 --height 480 --rate 30 --frames 90
  diffusion-perception replay scene.mcap out --visible-masks-topic /camera/visible_masks

The bag holds what a robot has,
  /camera/image_raw, /camera/camera_info and /camera/visible_masks (label images: 0 none, k instance k),
and what only a simulator knows:
  /ground_truth/depth/image (32FC1, metres along z, infinite in the sky), /ground_truth/depth/camera_info,
  /ground_truth/flow (NaN where the place leaves the image or is hidden in the next frame),
  /ground_truth/amodal/masks, /ground_truth/normals (32FC3, camera frame) and the poses of the camera and of the
  instances on /tf. The last frame has no flow. Equal runs write equal bytes.
"""

_CAMERA_FRAME = "camera_optical_frame"
_START = 1  # seconds: a stamp of 0 means "not set" to many ROS nodes


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
    parser.add_argument("--seed", type=int, default=900_000_000, help="which scene (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=30, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=10.0, metavar="HZ", help="frames a second (default: %(default)s)")
    parser.add_argument("--width", type=int, default=320, metavar="PIXELS", help="(default: %(default)s)")
    parser.add_argument("--height", type=int, default=240, metavar="PIXELS", help="(default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="where to render: auto, cpu, cuda, ... (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Render and record."""
    import torch

    _check(args)
    # The tensors of one frame are too small to share: on a busy machine, threads mostly wait for one another.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _write(args)
    finally:
        torch.set_num_threads(threads)
    return 0


def _write(args: argparse.Namespace) -> None:
    import tempfile

    from diffusion_perception_ros.replay.writer import check_output

    if args.output.suffix != ".mcap":
        # There is no input to protect, but the program itself.
        check_output(Path(__file__), args.output, args.overwrite)
        _record(args, args.output)
        return
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{args.output.name}.partial-", dir=args.output.parent) as folder:
        bag = Path(folder, "bag")
        _record(args, bag)
        next(bag.glob("*.mcap")).replace(args.output)


def _check(args: argparse.Namespace) -> None:
    from diffusion_perception_ros.errors import InputError

    if args.frames < 1 or not args.rate > 0 or args.seed < 0:
        raise InputError("--frames and --rate must be positive, and --seed must not be negative.")
    if args.output.suffix == ".mcap" and args.output.exists() and (args.output.is_dir() or not args.overwrite):
        raise InputError(f"the output {args.output} exists already; choose another or replace it with --overwrite.")


def _record(args: argparse.Namespace, output: Path) -> None:
    from tqdm import tqdm

    from diffusion_perception_ros.device import resolve_device
    from diffusion_perception_ros.replay.binding import bind
    from diffusion_perception_ros.replay.writer import BagWriter
    from diffusion_perception_ros.scenes import draw_scene, render

    device = resolve_device(args.device)
    scene = draw_scene(args.seed)
    with BagWriter(output, "mcap", args.overwrite) as bag:
        for time in tqdm(range(args.frames), unit="frame", dynamic_ncols=True, disable=None):
            frames = render([scene], [time], args.height, args.width, device)
            stamps = [_stamp((time + k) / args.rate) for k in range(2)]
            for topic, kind, fields in _messages(scene, frames, stamps[0], stamps[1], last=time == args.frames - 1):
                bag.write(topic, bind(kind, fields), stamps[0]["sec"] * 10**9 + stamps[0]["nanosec"])
    print(f"{args.output}: {args.frames} frames of scene {args.seed} ({', '.join(scene.names)})", file=sys.stderr)


def _stamp(seconds: float) -> Fields:
    nanoseconds = round(seconds * 1e9) + _START * 10**9
    return {"sec": nanoseconds // 10**9, "nanosec": nanoseconds % 10**9}


def _messages(
    scene: Scene, frames: Frames, stamp: Fields, next_stamp: Fields, last: bool
) -> Iterator[tuple[str, str, Fields]]:
    """Topic, type and fields of everything about one frame."""
    import numpy as np

    from diffusion_perception_ros.conversions import (
        amodal_mask_array_fields,
        header_fields,
        image_fields,
        optical_flow_fields,
    )
    from diffusion_perception_ros.predictions import AmodalInstance, PerceptionOutput
    from diffusion_perception_ros.replay.definitions import AMODAL_MASK_ARRAY, CAMERA_INFO, IMAGE, OPTICAL_FLOW

    header = header_fields(stamp["sec"], stamp["nanosec"], _CAMERA_FRAME)
    image, depth, normals, flow, valid, labels, amodal = (
        tensor[0, 0].cpu().numpy()
        for tensor in (
            *(frames.image, frames.depth, frames.normals, frames.flow, frames.flow_valid),
            *(frames.labels, frames.amodal),
        )
    )
    height, width = depth.shape
    camera_info = _camera_info_fields(header, frames.intrinsics[0].cpu().numpy(), height, width)
    yield "/camera/image_raw", IMAGE, image_fields(header, image, "rgb8")
    yield "/camera/camera_info", CAMERA_INFO, camera_info
    yield "/camera/visible_masks", IMAGE, image_fields(header, labels, "mono8")
    yield "/ground_truth/depth/image", IMAGE, image_fields(header, depth, "32FC1")
    yield "/ground_truth/depth/camera_info", CAMERA_INFO, camera_info
    rows = image_fields(header, normals.reshape(height, 3 * width), "32FC1")
    yield "/ground_truth/normals", IMAGE, {**rows, "width": width, "encoding": "32FC3"}
    instances = [AmodalInstance(k, labels == k, mask) for k, mask in enumerate(amodal, 1) if mask.any()]
    truth = PerceptionOutput(flow=np.where(valid[..., None], flow, np.float32(np.nan)), amodal=instances)
    yield "/ground_truth/amodal/masks", AMODAL_MASK_ARRAY, amodal_mask_array_fields(header, truth, (height, width))
    if not last:
        yield "/ground_truth/flow", OPTICAL_FLOW, optical_flow_fields(header, next_stamp, truth)
    poses = frames.body_to_world[0, 0].cpu().numpy()
    transforms = [_transform_fields(stamp, _CAMERA_FRAME, frames.camera_to_world[0, 0].cpu().numpy())]
    transforms += [_transform_fields(stamp, f"instance_{k}", poses[k]) for k in range(1, len(scene.names) + 1)]
    yield "/tf", "tf2_msgs/msg/TFMessage", {"transforms": transforms}


def _camera_info_fields(header: Fields, matrix: Any, height: int, width: int) -> Fields:
    """sensor_msgs/CameraInfo of a camera without distortion."""
    k = matrix.reshape(-1).tolist()
    return {
        "header": header,
        "height": height,
        "width": width,
        "distortion_model": "plumb_bob",
        "d": [0.0] * 5,
        "k": k,
        "r": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        "p": [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0],
        "binning_x": 0,
        "binning_y": 0,
        "roi": {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False},
    }


def _transform_fields(stamp: Fields, frame: str, pose: Any) -> Fields:
    """geometry_msgs/TransformStamped from the frame to the world."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat().tolist()
    translation = dict(zip("xyz", pose[:3, 3].tolist(), strict=True))
    return {
        "header": {"stamp": stamp, "frame_id": "world"},
        "child_frame_id": frame,
        "transform": {"translation": translation, "rotation": {"x": x, "y": y, "z": z, "w": w}},
    }
