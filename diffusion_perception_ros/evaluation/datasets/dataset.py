"""What every dataset offers, and how files are found and chosen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.evaluation.samples import Sample

T = TypeVar("T")


class Dataset(ABC):
    """Samples, read one at a time.

    Attributes:
        settings: What identifies the samples, as JSON values.
    """

    settings: Mapping[str, Any]

    @abstractmethod
    def __len__(self) -> int:
        """How many samples there are."""

    @abstractmethod
    def __iter__(self) -> Iterator[Sample]:
        """Read them; every call begins anew.

        Raises:
            InputError: A file is damaged, or what belongs together differs in size.
        """

    def sequences(self) -> Iterator[Sequence[Sample]]:
        """Runs of consecutive frames, for flicker: all have depth, all but the last have flow. Stills have none."""
        return iter(())


class IndexedDataset(Dataset):
    """Samples in files of their own, which can be read in any order."""

    @abstractmethod
    def __getitem__(self, number: int) -> Sample:
        """Read one.

        Raises:
            InputError: A file is damaged, or what belongs together differs in size.
        """

    def __iter__(self) -> Iterator[Sample]:
        return (self[number] for number in range(len(self)))


def evenly(items: Sequence[T], count: int | None) -> list[T]:
    """At most ``count`` items, spread evenly, because neighbours in a dataset are alike; all where it is None."""
    if count is None or count >= len(items):
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def existing_folder(path: Path, *parts: str) -> Path:
    """A folder of a dataset.

    Raises:
        InputError: It is not there.
    """
    folder = path.joinpath(*parts)
    if not folder.is_dir():
        raise InputError(f"the folder {folder} does not exist; name the folder that holds the dataset.")
    return folder


def existing_file(path: Path) -> Path:
    """A file of a dataset.

    Raises:
        InputError: It is not there.
    """
    if not path.is_file():
        raise InputError(f"the file {path} is missing; the dataset is not complete.")
    return path


def read_grey(path: Path) -> NDArray[Any]:
    """A picture with one channel as its file has it.

    Args:
        path: The file.

    Returns:
        (H, W) uint8 or uint16.

    Raises:
        InputError: The file is no such picture.
    """
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED) if path.stat().st_size else None
    if pixels is None or pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path} is no grey picture with 8 or 16 bits, or is damaged.")
    return np.asarray(pixels)
