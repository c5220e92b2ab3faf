"""Hypersim (Roberts et al. 2021) as prepared for Marigold: rendered indoor images and their depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.evaluation.datasets.dataset import (
    IndexedDataset,
    evenly,
    existing_file,
    existing_folder,
    read_grey,
)
from diffusion_perception_ros.evaluation.samples import DepthTruth, NormalTruth, Sample
from diffusion_perception_ros.media.pictures import read_picture

LIST = "filenames.txt"
# Marigold's range for this dataset, in metres.
_NEAREST, _FARTHEST = 1e-5, 65.0
_MILLIMETRES = np.float32(1000)  # in a metre
# From the dataset's camera frame (x right, y up, z back) to the optical one.
_TO_OPTICAL = np.array([1, -1, -1], np.float32)


class Hypersim(IndexedDataset):
    """Depth of single images, and their surface normals where Marigold's preparation of normals was run, too.

    ``filenames.txt`` has one line for each image: the RGB file and the depth file (16-bit PNG in millimetres along the
    optical axis, 0 is unknown), relative to the folder or to its ``val/``. Further columns are not read. The normals of
    ``rgb_X.png`` are ``normal_cam_X.npy`` beside it, (H, W, 3) unit vectors.

    Args:
        path: The folder.
        samples: How many, spread evenly over the list; None for all.
        normals: Whether to read normals; None to read those that are there.

    Raises:
        InputError: The folder or a file of the chosen samples is missing, or the list is unusable.
    """

    def __init__(self, path: Path, samples: int | None = None, normals: bool | None = None) -> None:
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
        self._normals: dict[int, Path] = {}
        for number, (image, _) in enumerate(self._pairs if normals is not False else ()):
            beside = image.with_name(f"normal_cam_{image.stem.removeprefix('rgb_')}.npy")
            if normals or beside.is_file():
                self._normals[number] = existing_file(beside)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, number: int) -> Sample:
        image, depth = self._pairs[number]
        metres = read_grey(depth).astype(np.float32) / _MILLIMETRES
        normals = _read_normals(self._normals[number]) if number in self._normals else None
        truth = DepthTruth.within(metres, _NEAREST, _FARTHEST)
        return Sample(str(image), read_picture(image), depth=truth, normals=normals)


def _read_normals(path: Path) -> NormalTruth:
    try:
        vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        vectors = np.empty(0)
    if vectors.ndim != 3 or vectors.shape[2] != 3 or vectors.dtype.kind != "f":
        raise InputError(f"{path} holds no (height, width, 3) array of numbers, or is damaged.")
    return NormalTruth.where_known(vectors.astype(np.float32) * _TO_OPTICAL)
