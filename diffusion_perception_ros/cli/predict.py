"""``diffusion-perception predict``: depth, flow and amodal masks of plain pictures and videos."""

from __future__ import annotations

import argparse

from diffusion_perception_ros.cli.jobs import run_job
from diffusion_perception_ros.cli.options import (
    add_pipeline_options,
    load_pipeline,
    path,
    sampling_arguments,
    task_names,
)

_EPILOG = """\
examples:
  diffusion-perception predict street.jpg --out results
  diffusion-perception predict first.png --next second.png --masks labels.png --out results
  diffusion-perception predict frames/ drive.mp4 --tasks depth,flow --out results --ensemble 4
  diffusion-perception predict frames/ --masks frames_labels/ --out results

Results of a picture are OUT/<picture>_..., those of folders and videos OUT/<folder or video>/<frame>_...:
  _depth.npy (float32, 0 near to 1 far) and _depth.png, _flow.flo (Middlebury's format, pixels, unknown as 1e10) and
  _flow.png, _amodal_<id>.png (0 and 255), _appearance_<id>.png and _overlay.png; with an ensemble of 3 and more
  _depth_uncertainty.npy and _flow_standard_deviation.npy. Checkpoints that were trained for it also give _normals.npy
  (float32 unit vectors, x right, y down, z forward) and _normals.png.

exit status:
  0 everything was processed, 2 unusable input or arguments, 3 finished, but pictures or label images were skipped
  or a video was cut off, 130 interrupted
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = subparsers.add_parser(
        "predict",
        usage="%(prog)s [options] INPUT [INPUT ...] --out DIR",
        help="depth, flow and amodal masks of pictures and videos",
        description="Depth, optical flow and amodal masks of pictures, folders of pictures and videos.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        type=path,
        help="a picture, a folder of consecutive pictures (in natural order), or a video",
    )
    source = parser.add_argument_group("input")
    source.add_argument("--next", type=path, metavar="IMAGE", help="the frame after a single picture, for flow")
    source.add_argument(
        "--masks",
        type=path,
        metavar="PATH",
        help="visible masks as label images (grey PNG, 8 or 16 bit, 0 background, k object k): one for a single "
        "picture, or a folder with one per frame, named like the pictures, for videos 000000.png, 000001.png, ...",
    )
    source.add_argument(
        "--tasks",
        type=task_names,
        metavar="LIST",
        help="comma-separated: depth, flow, amodal, normals (default: depth, flow where there is a next frame, amodal "
        "where there are masks, and normals if the checkpoint knows them)",
    )
    add_pipeline_options(parser)
    result = parser.add_argument_group("output")
    result.add_argument("--out", type=path, required=True, metavar="DIR", help="the folder for the results")
    result.add_argument("--overwrite", action="store_true", help="replace results that are there already")
    result.add_argument("--json", action="store_true", help="print the summary as one JSON object, and nothing else")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Predict and report."""
    from diffusion_perception_ros.media import PredictJob, PredictSettings

    settings = PredictSettings(
        next_image=args.next,
        masks=args.masks,
        tasks=args.tasks,
        **sampling_arguments(args, args.seed),
        overwrite=args.overwrite,
    )
    job = PredictJob(args.inputs, args.out, settings)
    pipe = load_pipeline(args)
    return run_job(job, pipe, args.json)
