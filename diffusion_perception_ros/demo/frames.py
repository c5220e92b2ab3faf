"""The frames of the demo: real ones where recorded bags are at hand, rendered ones elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions import image_from_compressed_message, image_from_message, labels_from_message
from diffusion_perception_ros.replay.bag import RawMessage, deserialize, header_stamp
from diffusion_perception_ros.replay.definitions import COMPRESSED_IMAGE
from diffusion_perception_ros.replay.reader import BagReader
from diffusion_perception_ros.scenes import EVALUATION_SEED, draw_scene, render

WIDTH, HEIGHT = 240, 180
# How much of a still picture around the frame a panning camera has room in.
_MARGIN_X, _MARGIN_Y = 16, 12


@dataclass(frozen=True)
class Pair:
    """Two consecutive frames with the visible masks of their objects.

    Attributes:
        images: Two (HEIGHT, WIDTH, 3) uint8 RGB.
        labels: Two (HEIGHT, WIDTH) uint8 label images, or None where nobody said what is visible.
    """

    images: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    labels: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None


class _Recording(NamedTuple):
    bag: str
    image_topic: str
    masks_topic: str | None
    # Whether every two frames are consecutive ones; otherwise they are stills that a camera pans over.
    in_pairs: bool


_RECORDINGS = (
    _Recording("occlusion_masks_mcap", "/cam0/image_raw/compressed", "/cam0/visible_masks", in_pairs=False),
    _Recording("chairs_mcap", "/camera/image_raw", None, in_pairs=True),
    _Recording("hypersim_depth_mcap", "/camera/color/image_raw", None, in_pairs=False),
    _Recording("occlusion_masks_mcap", "/cam0/image_raw/compressed", "/cam0/visible_masks", in_pairs=False),
)


def recorded_pairs(bags: Path, count: int) -> list[Pair]:
    """Pairs from a folder of bags, in turn from each that is there.

    Args:
        bags: The folder; the bags this looks for are listed in this file.
        count: How many.

    Returns:
        At most ``count`` pairs; none where none of the bags is there.
    """
    streams: dict[str, Iterator[Pair]] = {}
    turns = [recording for recording in _RECORDINGS if (bags / recording.bag).is_dir()]
    pairs: list[Pair] = []
    while turns and len(pairs) < count:
        recording = turns.pop(0)
        stream = streams.setdefault(recording.bag, _pairs_of(bags, recording))
        pair = next(stream, None)
        if pair is not None:
            pairs.append(pair)
            turns.append(recording)
    return pairs


def rendered_pairs(count: int) -> list[Pair]:
    """Pairs of procedural scenes, which no checkpoint was trained on."""
    pairs = []
    for seed in range(EVALUATION_SEED, EVALUATION_SEED + count):
        frames = render([draw_scene(seed)], (0, 1), HEIGHT, WIDTH)
        image, next_image = frames.image[0].numpy()
        labels, next_labels = frames.labels[0].numpy()
        pairs.append(Pair((image, next_image), (labels, next_labels)))
    return pairs


def _pairs_of(bags: Path, recording: _Recording) -> Iterator[Pair]:
    with BagReader(bags / recording.bag) as bag:
        labels = {}
        if recording.masks_topic is not None:
            messages = bag.messages([recording.masks_topic])
            labels = {header_stamp(raw): labels_from_message(deserialize(raw)) for raw in messages}
        messages = bag.messages([recording.image_topic])
        while raws := list(islice(messages, 2 if recording.in_pairs else 1)):
            images = [_read(raw) for raw in raws]
            if not recording.in_pairs:
                yield _pan(images[0], labels.get(header_stamp(raws[0])), header_stamp(raws[0]) or 0)
            elif len(images) == 2:
                first, second = (cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for image in images)
                yield Pair((np.asarray(first, np.uint8), np.asarray(second, np.uint8)), None)


def _read(raw: RawMessage) -> NDArray[np.uint8]:
    message = deserialize(raw)
    return image_from_compressed_message(message) if raw.type == COMPRESSED_IMAGE else image_from_message(message)


def _pan(image: NDArray[np.uint8], labels: NDArray[Any] | None, stamp: int) -> Pair:
    """Two views of a still, a few pixels apart; the stamp varies the direction."""
    size = WIDTH + _MARGIN_X, HEIGHT + _MARGIN_Y
    direction = -1 if stamp // 10**8 % 2 else 1
    offsets = [(_MARGIN_X // 2 - direction * side * 4, _MARGIN_Y // 2 + side * 2) for side in (-1, 1)]
    image = _fit(image, size, cv2.INTER_AREA)
    images = [np.ascontiguousarray(image[y : y + HEIGHT, x : x + WIDTH]) for x, y in offsets]
    if labels is None:
        return Pair((images[0], images[1]), None)
    labels = _fit(labels.astype(np.uint8), size, cv2.INTER_NEAREST)
    views = [np.ascontiguousarray(labels[y : y + HEIGHT, x : x + WIDTH]) for x, y in offsets]
    return Pair((images[0], images[1]), (views[0], views[1]))


def _fit(picture: NDArray[np.uint8], size: tuple[int, int], interpolation: int) -> NDArray[np.uint8]:
    """The middle of a picture at another size, its aspect ratio kept."""
    height, width = picture.shape[:2]
    scale = max(size[0] / width, size[1] / height)
    crop_width, crop_height = round(size[0] / scale), round(size[1] / scale)
    x, y = (width - crop_width) // 2, (height - crop_height) // 2
    crop = picture[y : y + crop_height, x : x + crop_width]
    return np.asarray(cv2.resize(crop, size, interpolation=interpolation), np.uint8)
