"""The demo: a bag is written, replayed, read back and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros import __version__
from diffusion_perception_ros.conversions import header_fields, image_fields, image_from_message
from diffusion_perception_ros.demo.contact_sheet import Row, contact_sheet
from diffusion_perception_ros.demo.frames import Pair, recorded_pairs, rendered_pairs
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.media.pictures import write_picture
from diffusion_perception_ros.replay import ReplaySettings, ReplaySummary, replay
from diffusion_perception_ros.replay.bag import NANOSECONDS, deserialize, header_stamp
from diffusion_perception_ros.replay.binding import bind
from diffusion_perception_ros.replay.definitions import IMAGE
from diffusion_perception_ros.replay.engine import Progress
from diffusion_perception_ros.replay.reader import BagReader
from diffusion_perception_ros.replay.writer import BagWriter, check_output

if TYPE_CHECKING:
    from diffusion_perception_ros.pipeline import PerceptionPipeline

_START = 1_700_000_000
_FLOW_RANGE = 16.0
_IMAGE_TOPIC, _MASKS_TOPIC = "/camera/image_raw", "/camera/visible_masks"
_COLUMNS = {
    _IMAGE_TOPIC: "",
    "/perception/depth/color": "no depth",
    "/perception/flow/color": "no flow",
    "/perception/amodal/overlay": "no visible masks given",
}


@dataclass(frozen=True)
class DemoResult:
    """Where everything is.

    Attributes:
        input_bag: The bag that was replayed.
        output_bag: What came out, with a copy of what went in.
        contact_sheet: The picture.
        recorded: The frames are real ones.
        summary: Counts and times of the replay.
    """

    input_bag: Path
    output_bag: Path
    contact_sheet: Path
    recorded: bool
    summary: ReplaySummary


def run_demo(
    output: Path, num_pairs: int, pipe: PerceptionPipeline, bags: Path | None = None, progress: Progress | None = None
) -> DemoResult:
    """Write a short bag, replay it, and draw a contact sheet of the result.

    Args:
        output: The folder for all of it; what an earlier run left there is replaced.
        num_pairs: Frame pairs in the bag, and rows of the contact sheet; at most as many as ``bags`` has.
        pipe: Makes the predictions.
        bags: A folder with recorded bags; where it is None or has none that fit, they are rendered.
        progress: As for ``replay``.

    Raises:
        InputError: ``num_pairs`` is less than 1, or the output cannot be written.
    """
    if num_pairs < 1:
        raise InputError(f"--frames is {num_pairs}; give at least 1.")
    pairs = recorded_pairs(bags, num_pairs) if bags is not None else []
    recorded = bool(pairs)
    result = output / "input", output / "output", output / "contact_sheet.png"
    _write_bag(result[0], result[1], pairs or rendered_pairs(num_pairs))
    settings = ReplaySettings(
        visible_masks_topic=_MASKS_TOPIC,
        max_frame_gap=1.0,
        flow_color_range=_FLOW_RANGE,
        include_input=True,
        overwrite=True,
    )
    summary = replay(result[0], result[1], pipe, settings, progress)
    write_picture(result[2], _draw(result[1], pipe, summary, recorded))
    return DemoResult(*result, recorded, summary)


def _write_bag(folder: Path, other: Path, pairs: Sequence[Pair]) -> None:
    """Pairs are 0.1 s apart inside and 10 s apart from each other, so that none forms across two scenes."""
    check_output(other, folder, overwrite=True)
    with BagWriter(folder, "mcap", overwrite=True) as writer:
        for index, pair in enumerate(pairs):
            for position, image in enumerate(pair.images):
                header = header_fields(_START + 10 * index, position * NANOSECONDS // 10, "camera_optical_frame")
                time = header["stamp"]["sec"] * NANOSECONDS + header["stamp"]["nanosec"]
                writer.write(_IMAGE_TOPIC, bind(IMAGE, image_fields(header, image, "rgb8")), time)
                if pair.labels is not None:
                    labels = image_fields(header, pair.labels[position], "mono8")
                    writer.write(_MASKS_TOPIC, bind(IMAGE, labels), time)


def _draw(bag: Path, pipe: PerceptionPipeline, summary: ReplaySummary, recorded: bool) -> NDArray[np.uint8]:
    """The contact sheet of an output bag: the first frame of each pair."""
    frames: dict[int, dict[str, NDArray[np.uint8]]] = {}
    with BagReader(bag) as reader:
        for raw in reader.messages(list(_COLUMNS)):
            picture: Any = image_from_message(deserialize(raw))[..., ::-1]
            frames.setdefault(header_stamp(raw) or 0, {})[raw.topic] = np.ascontiguousarray(picture)
    rows = [
        Row(
            f"{(stamp - min(frames)) / NANOSECONDS:.0f} s after the first frame"
            if stamp > min(frames)
            else "first frame",
            [pictures.get(topic, missing) for topic, missing in _COLUMNS.items()],
        )
        for stamp, pictures in sorted(frames.items())
        if stamp % NANOSECONDS == 0
    ]
    metadata = pipe.metadata
    steps = f"{metadata.num_inference_steps} step" + ("s" if metadata.num_inference_steps > 1 else "")
    note = (
        f"diffusion_perception_ros {__version__}   |   {'recorded' if recorded else 'rendered'} frames   |   "
        f"checkpoint: {metadata.name}   |   sampler: {metadata.sampler}, {steps}   |   "
        f"{summary.frames_per_second:.1f} frames/s on {pipe.device}"
    )
    warning = "RANDOM WEIGHTS, NOT TRAINED: these predictions mean nothing yet" if metadata.is_random else None
    return contact_sheet("One bag in, depth, flow and amodal masks out", note, rows, _FLOW_RANGE, warning)
