"""Video files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.errors import InputError

VIDEO_SUFFIXES = frozenset(
    [".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm"]
)
# Containers without an index tell their length only roughly.
_LENGTH_TOLERANCE = 0.1


class Video:
    """The frames of one video.

    Args:
        path: The file.

    Attributes:
        count: How many frames the file says it has; 0 if it does not tell.

    Raises:
        InputError: Not one frame can be read.
    """

    def __init__(self, path: Path) -> None:
        # Read when FFmpeg starts: what is wrong with a file is said by us, in one sentence.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        self._path = path
        capture = cv2.VideoCapture(str(path))
        try:
            if not capture.read()[0]:
                raise InputError(f"{path} is not a video that can be read; it is damaged, or in an unknown format.")
            self.count = max(0, round(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        finally:
            capture.release()

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """(H, W, 3) uint8 RGB, turned as the file says."""
        capture = cv2.VideoCapture(str(self._path))
        try:
            while True:
                good, frame = capture.read()
                if not good:
                    return
                yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
        finally:
            capture.release()

    def is_cut(self, frames_read: int) -> bool:
        """Whether clearly fewer frames came out than the file says it has."""
        return frames_read < (1 - _LENGTH_TOLERANCE) * self.count
