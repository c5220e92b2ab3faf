"""A folder of label images, found by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions import ImageError
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.media.naming import files_in
from diffusion_perception_ros.media.pictures import read_labels


class LabelFolder:
    """Label images named like the frames they are about.

    Args:
        path: The folder; what is not called ``*.png`` in it is passed over.

    Attributes:
        count: Number of label images.
        used: How many of them were asked for.

    Raises:
        InputError: There is no label image in it.
    """

    def __init__(self, path: Path) -> None:
        self._paths = {entry.stem: entry for entry in files_in(path) if entry.suffix.lower() == ".png"}
        self._path = path
        self.count = len(self._paths)
        self.used = 0
        if not self._paths:
            raise InputError(f"--masks {path} has no PNG file in it.")

    def check(self, names: Iterable[str]) -> None:
        """Whether any label image belongs to a frame of one of these names.

        Raises:
            InputError: None does.
        """
        if not any(name in self._paths for name in names):
            raise InputError(
                f"no file in --masks {self._path} is named like a frame; it has {min(self._paths)}.png, for example, "
                "but label images are called as their pictures are, and those of a video 000000.png, 000001.png, ..."
            )

    def find(self, name: str, size: tuple[int, ...]) -> NDArray[np.integer[Any]] | None:
        """The label image of a frame, or None if it has none.

        Raises:
            ImageError: It cannot be read, or is not of the frame's (height, width).
        """
        path = self._paths.get(name)
        if path is None:
            return None
        self.used += 1
        labels = read_labels(path)
        check_size(path, labels, size)
        return labels


def check_size(path: Path, labels: NDArray[np.integer[Any]], size: tuple[int, ...]) -> None:
    """Whether a label image is of its picture's (height, width).

    Raises:
        ImageError: It is not.
    """
    if labels.shape != size:
        raise ImageError(
            "size_mismatch",
            f"the label image {path} is {labels.shape[1]}x{labels.shape[0]}, but its picture {size[1]}x{size[0]}.",
        )
