"""``diffusion-perception replay``: a bag of camera images becomes a bag of depth, flow and amodal masks."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from diffusion_perception_ros.cli.jobs import run_job
from diffusion_perception_ros.cli.options import (
    add_pipeline_options,
    load_pipeline,
    path,
    sampling_arguments,
    task_names,
)
from diffusion_perception_ros.temporal import TEMPORAL_MODES

if TYPE_CHECKING:
    from diffusion_perception_ros.replay import ReplaySettings

_EPILOG = """\
examples:
  diffusion-perception replay drive drive_perception
  diffusion-perception replay drive.mcap out --tasks depth --image-topic /camera/left/image_raw
  diffusion-perception replay drive out --visible-masks-topic /detector/masks --include-input --storage sqlite3
  diffusion-perception replay drive out --steps 4 --ensemble 4 --json > summary.json

The output holds, under --namespace, with stamps and frame ids of the source frames:
  depth/relative, depth/uncertainty, depth/color, depth/camera_info, flow, flow/image, flow/color, amodal/masks,
  amodal/overlay and status. Equal runs write equal bytes.

exit status:
  0 all frames were processed, 2 unusable input or arguments, 3 finished, but messages were skipped or the input
  was cut off, 130 interrupted
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = subparsers.add_parser(
        "replay",
        usage="%(prog)s [options] INPUT OUTPUT",
        help="turn a recorded bag into a bag of depth, flow and amodal masks (no ROS needed)",
        description="Turn a recorded bag into a bag of depth, optical flow and amodal masks. No ROS is needed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "input", metavar="INPUT", type=path, help="a rosbag2 folder, or a .mcap or .db3 file; may be cut off"
    )
    parser.add_argument(
        "output", metavar="OUTPUT", type=path, help="the folder of the new bag; it appears when it is complete"
    )
    source = parser.add_argument_group("input")
    source.add_argument("--image-topic", metavar="TOPIC", help="the camera (default: the only one in the bag)")
    source.add_argument(
        "--camera-info-topic", metavar="TOPIC", help="its calibration (default: camera_info beside the image topic)"
    )
    source.add_argument(
        "--visible-masks-topic", metavar="TOPIC", help="label images of visible masks, with the frames' stamps"
    )
    source.add_argument(
        "--pair-topic", metavar="TOPIC", help="second frames of flow pairs (default: the next frame of the camera)"
    )
    source.add_argument(
        "--max-frame-gap",
        type=float,
        metavar="SECONDS",
        help="no flow between frames further apart (default: no limit)",
    )
    source.add_argument(
        "--tasks",
        type=task_names,
        metavar="LIST",
        help="comma-separated: depth, flow, amodal (default: depth,flow, and amodal with --visible-masks-topic)",
    )
    add_pipeline_options(parser)
    # Not among the options of the model, which all commands share.
    parser.add_argument(
        "--budget-ms",
        type=float,
        metavar="MS",
        help="time to predict one frame, for which members, then steps, then the last tasks are given up; the result "
        "then depends on how fast the machine is (default: no limit)",
    )
    parser.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help="frames predicted at once (default: 4 on a CPU, else 8); fewer need less memory",
    )
    parser.add_argument(
        "--temporal",
        choices=TEMPORAL_MODES,
        nargs="?",
        const="moving_average",
        default="off",
        help="depth that continues the frame before, so that it flickers less (without a name: moving_average; "
        "default: %(default)s)",
    )
    result = parser.add_argument_group("output")
    result.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap", help="(default: mcap)")
    result.add_argument("--namespace", default="/perception", help="in front of all topics (default: /perception)")
    result.add_argument(
        "--flow-color-range",
        type=float,
        metavar="PIXELS",
        help="displacement drawn in full colour (default: 5 %% of the image diagonal, at least 8)",
    )
    result.add_argument("--include-input", action="store_true", help="copy the messages that were read")
    result.add_argument(
        "--include-status", action="store_true", help="write measured times into status, so that runs differ"
    )
    result.add_argument("--overwrite", action="store_true", help="replace an existing output bag")
    result.add_argument("--json", action="store_true", help="print the summary as one JSON object, and nothing else")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Replay the bag and report."""
    from diffusion_perception_ros.replay import Replay

    with Replay(args.input, args.output, _settings(args)) as job:
        pipe = load_pipeline(args)
        return run_job(job, pipe, args.json, job.frames_expected)


def _settings(args: argparse.Namespace) -> ReplaySettings:
    from diffusion_perception_ros.replay import ReplaySettings

    return ReplaySettings(
        image_topic=args.image_topic,
        camera_info_topic=args.camera_info_topic,
        visible_masks_topic=args.visible_masks_topic,
        pair_topic=args.pair_topic,
        tasks=args.tasks,
        **sampling_arguments(args, args.seed),
        storage=args.storage,
        namespace=args.namespace,
        temporal=args.temporal,
        budget_ms=args.budget_ms,
        batch_size=args.batch,
        max_frame_gap=args.max_frame_gap,
        flow_color_range=args.flow_color_range,
        include_input=args.include_input,
        include_status=args.include_status,
        overwrite=args.overwrite,
    )
