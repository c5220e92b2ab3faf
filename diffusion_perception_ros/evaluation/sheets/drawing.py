"""Words, colour ramps and patches on a sheet."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions import flow_color

Picture = NDArray[np.uint8]
Color = tuple[int, int, int]

PAPER: Color = (252, 252, 252)  # BGR
INK: Color = (44, 38, 34)
FAINT: Color = (120, 112, 106)
RULE: Color = (222, 218, 214)
_FONT = cv2.FONT_HERSHEY_DUPLEX
_LEGEND = 0.45


def text(sheet: Picture, words: str, origin: tuple[int, int], scale: float, color: Color) -> int:
    """Draw words with their baseline at ``origin``; returns where they end."""
    cv2.putText(sheet, words, origin, _FONT, scale, color, 1, cv2.LINE_AA)
    return origin[0] + text_width(words, scale)


def text_width(words: str, scale: float) -> int:
    """In pixels."""
    (width, _), _ = cv2.getTextSize(words, _FONT, scale, 1)
    return int(width)


def note(sheet: Picture, words: str, x: int, line: int) -> int:
    """Words of a legend; returns where they end."""
    return text(sheet, words, (x, line), _LEGEND, FAINT)


def ramp(sheet: Picture, paint: Callable[[NDArray[np.float32]], Picture], x: int, line: int, width: int) -> int:
    """The colours from 0 to 1; returns where they end."""
    sheet[line - 11 : line + 1, x : x + width] = paint(np.tile(np.linspace(0, 1, width, dtype=np.float32), (12, 1)))
    cv2.rectangle(sheet, (x - 1, line - 12), (x + width, line + 1), RULE, 1)
    return x + width


def swatch(sheet: Picture, name: str, color: Color, x: int, line: int, edge: Color) -> int:
    """A patch of a colour and what it means; returns where the next one begins."""
    cv2.rectangle(sheet, (x, line - 11), (x + 20, line + 1), color, -1)
    cv2.rectangle(sheet, (x, line - 11), (x + 20, line + 1), edge, 1)
    return note(sheet, name, x + 27, line) + 16


def wheel(sheet: Picture, center_x: int, center_y: int, radius: int) -> None:
    """The colours of motion away from the centre, drawn four times as large and shrunk, for a smooth edge."""
    axis = np.linspace(-1, 1, 8 * radius, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)
    colors = flow_color(grid, 1.0)
    colors[np.linalg.norm(grid, axis=-1) > 1] = PAPER
    small = cv2.resize(colors, (2 * radius, 2 * radius), interpolation=cv2.INTER_AREA)
    sheet[center_y - radius : center_y + radius, center_x - radius : center_x + radius] = small
