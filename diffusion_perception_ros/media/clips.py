"""Clips: the frames of a picture, of a folder of pictures or of a video, one after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions import ImageError
from diffusion_perception_ros.media.labels import LabelFolder
from diffusion_perception_ros.media.naming import unique_names
from diffusion_perception_ros.media.pictures import read_picture
from diffusion_perception_ros.media.video import Video


@dataclass
class Tally:
    """Counts what was met on the way.

    Attributes:
        received: Pictures and video frames met.
        skipped: What could not be used, by reason.
        omitted: Parts of results that could not be made, by reason.
        problems: One sentence for each thing skipped.
        input_cut: What is missing at the end of a video, or None.
    """

    received: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    omitted: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    input_cut: str | None = None

    def skip(self, reason: str, problem: str) -> None:
        """Count something that cannot be used."""
        self.skipped[reason] += 1
        self.problems.append(problem)


@dataclass(frozen=True)
class Frame:
    """One frame with what is known about it.

    Attributes:
        name: What the names of its results begin with.
        image: (H, W, 3) uint8 RGB.
        next_image: The frame after it, of the same size, or None.
        labels: (H, W) label image of visible masks, or None.
    """

    name: str
    image: NDArray[np.uint8]
    next_image: NDArray[np.uint8] | None = None
    labels: NDArray[np.integer[Any]] | None = None


class Clip(ABC):
    """Frames that belong together.

    Attributes:
        path: Where they are.
        name: The input's name, unique among the inputs.
        has_folder: Its results lie in a folder of that name, not beside those of other inputs.
        count: How many frames to expect.
        pairs: Whether any frame has a next one.
    """

    path: Path
    name: str
    has_folder: bool
    count: int
    pairs: bool

    @abstractmethod
    def frames(self, tally: Tally) -> Iterator[Frame]:
        """The frames that can be used, in order; never more than two are in memory."""

    @abstractmethod
    def label_names(self) -> Iterable[str]:
        """The names, without suffix, that label images of its frames would have."""


class StillClip(Clip):
    """One picture; its next frame is given or unknown."""

    has_folder = False
    count = 1

    def __init__(self, path: Path, name: str, labels: LabelFolder | None) -> None:
        self.path, self.name, self._labels = path, name, labels
        self.pairs = False

    def frames(self, tally: Tally) -> Iterator[Frame]:
        """The picture, if it can be decoded."""
        image = _read(self.path, tally)
        if image is not None:
            yield Frame(self.name, image, labels=_labels(self._labels, self.path.stem, image, tally))

    def label_names(self) -> Iterable[str]:
        """The picture's own."""
        return (self.path.stem,)


class GivenClip(Clip):
    """One picture whose next frame or label image was named with it; all was read already."""

    has_folder = False
    count = 1

    def __init__(self, path: Path, frame: Frame) -> None:
        self.path, self.name, self._frame = path, frame.name, frame
        self.pairs = frame.next_image is not None

    def frames(self, tally: Tally) -> Iterator[Frame]:
        """The one."""
        tally.received += 1
        yield self._frame

    def label_names(self) -> Iterable[str]:
        """Not looked for."""
        return (self.path.stem,)


class FolderClip(Clip):
    """The pictures of a folder in natural order; each one's next frame is the next that can be used."""

    has_folder = True

    def __init__(self, path: Path, name: str, pictures: list[Path], labels: LabelFolder | None) -> None:
        self.path, self.name, self._pictures, self._labels = path, name, pictures, labels
        self.count = len(pictures)
        self.pairs = self.count > 1

    def frames(self, tally: Tally) -> Iterator[Frame]:
        """The pictures that can be decoded."""
        return _paired(self._singles(tally), tally)

    def label_names(self) -> Iterable[str]:
        """Those of the pictures."""
        return (picture.stem for picture in self._pictures)

    def _singles(self, tally: Tally) -> Iterator[Frame]:
        names = unique_names([picture.stem for picture in self._pictures])
        for picture, name in zip(self._pictures, names, strict=True):
            image = _read(picture, tally)
            if image is not None:
                yield Frame(name, image, labels=_labels(self._labels, picture.stem, image, tally))


class VideoClip(Clip):
    """The frames of a video, named by their index with six digits."""

    has_folder = True

    def __init__(self, path: Path, name: str, labels: LabelFolder | None) -> None:
        self.path, self.name, self._labels = path, name, labels
        self._video = Video(path)
        self.count = self._video.count
        self.pairs = self.count != 1

    def frames(self, tally: Tally) -> Iterator[Frame]:
        """All that can be decoded."""
        return _paired(self._singles(tally), tally)

    def label_names(self) -> Iterable[str]:
        """The indices, as far as the video tells how many there are."""
        return (f"{index:06d}" for index in range(self.count or 10**6))

    def _singles(self, tally: Tally) -> Iterator[Frame]:
        index = -1
        for index, image in enumerate(self._video.frames()):
            tally.received += 1
            name = f"{index:06d}"
            yield Frame(name, image, labels=_labels(self._labels, name, image, tally))
        if self._video.is_cut(index + 1):
            tally.input_cut = f"{self.path} gave {index + 1} of about {self.count} frames"


def _paired(singles: Iterator[Frame], tally: Tally) -> Iterator[Frame]:
    waiting: Frame | None = None
    for frame in singles:
        if waiting is not None:
            if frame.image.shape == waiting.image.shape:
                waiting = replace(waiting, next_image=frame.image)
            else:
                tally.omitted["resolution_changed"] += 1
            yield waiting
        waiting = frame
    if waiting is not None:
        yield waiting


def _read(path: Path, tally: Tally) -> NDArray[np.uint8] | None:
    tally.received += 1
    try:
        return read_picture(path)
    except ImageError as error:
        tally.skip(error.reason, str(error))
        return None


def _labels(
    folder: LabelFolder | None, name: str, image: NDArray[np.uint8], tally: Tally
) -> NDArray[np.integer[Any]] | None:
    if folder is None:
        return None
    try:
        return folder.find(name, image.shape[:2])
    except ImageError as error:
        tally.skip(f"masks_{error.reason}", str(error))
        return None
