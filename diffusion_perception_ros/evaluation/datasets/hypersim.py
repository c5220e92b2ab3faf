"""Hypersim (Roberts et al. 2021) as prepared for Marigold: rendered indoor images and their depth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.evaluation.datasets.dataset import (
    Dataset,
    evenly,
    existing_file,
    existing_folder,
    read_grey,
)
from diffusion_perception_ros.evaluation.samples import DepthTruth, Sample
from diffusion_perception_ros.media.pictures import read_picture

LIST = "filenames.txt"
# Marigold's range for this dataset, in metres.
_NEAREST, _FARTHEST = 1e-5, 65.0
_MILLIMETRES = np.float32(1000)  # in a metre


class Hypersim(Dataset):
    """Depth of single images.

    ``filenames.txt`` has one line for each image: the RGB file and the depth file (16-bit PNG in millimetres along the
    optical axis, 0 is unknown), relative to the folder or to its ``val/``. Further columns are not read.

    Args:
        path: The folder.
        samples: How many, spread evenly over the list; None for all.

    Raises:
        InputError: The folder or a file of the chosen samples is missing, or the list is unusable.
    """

    def __init__(self, path: Path, samples: int | None = None) -> None:
        self.settings = {"dataset": "hypersim", "path": str(path), "depth_range_m": [_NEAREST, _FARTHEST]}
        listing = existing_file(existing_folder(path) / LIST)
        root = path / "val" if (path / "val").is_dir() else path
        lines = [line.split() for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()]
        if not lines:
            raise InputError(f"{listing} lists no images.")
        for number, line in enumerate(lines, 1):
            if len(line) < 2:
                raise InputError(f"{listing}, line {number}, names one file; it has to name an image and its depth.")
        self._pairs = [
            (existing_file(root / image), existing_file(root / depth)) for image, depth, *_ in evenly(lines, samples)
        ]

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[Sample]:
        for image, depth in self._pairs:
            metres = read_grey(depth).astype(np.float32) / _MILLIMETRES
            yield Sample(str(image), read_picture(image), depth=DepthTruth.within(metres, _NEAREST, _FARTHEST))
