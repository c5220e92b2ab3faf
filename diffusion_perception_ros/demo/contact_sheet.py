"""The contact sheet: frames and their predictions side by side, with what the colours mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions import depth_color, flow_color

Picture = NDArray[np.uint8]

_BACKGROUND, _INK, _FAINT, _RULE = (250, 250, 250), (44, 38, 34), (128, 120, 114), (222, 218, 214)  # BGR
_BANNER, _ON_BANNER = (38, 92, 214), (255, 255, 255)
_MARGIN, _GAP, _CAPTION = 36, 16, 34
_TILE_WIDTH = 360
_FONT = cv2.FONT_HERSHEY_DUPLEX


@dataclass(frozen=True)
class Row:
    """One frame.

    Attributes:
        caption: Which frame it is.
        tiles: Input, depth, flow and masks as (H, W, 3) uint8 BGR, or a few words on why there is no such picture.
    """

    caption: str
    tiles: Sequence[Picture | str]


def contact_sheet(title: str, note: str, rows: Sequence[Row], flow_range: float, warning: str | None = None) -> Picture:
    """Draw it.

    Args:
        title: In large letters.
        note: In small ones, below.
        rows: The frames; all pictures of one size.
        flow_range: Displacement in pixels that is drawn in full colour.
        warning: What nobody may miss, on a banner across the sheet.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    height, width = next(tile.shape[:2] for row in rows for tile in row.tiles if not isinstance(tile, str))
    tile_size = _TILE_WIDTH, round(_TILE_WIDTH * height / width)
    banner_top, banner_height = 104, 52 if warning else 0
    legend_top = banner_top + banner_height + 34
    rows_top = legend_top + 62
    row_height = tile_size[1] + _CAPTION + _GAP
    sheet_width = 2 * _MARGIN + 4 * _TILE_WIDTH + 3 * _GAP
    sheet: Picture = np.full(
        (rows_top + len(rows) * row_height + _MARGIN - _GAP, sheet_width, 3), _BACKGROUND, np.uint8
    )

    _text(sheet, title, (_MARGIN, 56), 1.0, _INK)
    _text(sheet, note, (_MARGIN, 86), 0.5, _FAINT)
    if warning:
        sheet[banner_top : banner_top + banner_height] = _BANNER
        (text_width, _), _ = cv2.getTextSize(warning, _FONT, 0.8, 1)
        _text(sheet, warning, ((sheet_width - text_width) // 2, banner_top + 34), 0.8, _ON_BANNER)
    columns = [_MARGIN + column * (_TILE_WIDTH + _GAP) for column in range(4)]
    _legends(sheet, columns, legend_top, flow_range)
    for index, row in enumerate(rows):
        top = rows_top + index * row_height
        for x, tile in zip(columns, row.tiles, strict=True):
            _tile(sheet, tile, x, top, tile_size)
        _text(sheet, row.caption, (_MARGIN, top + tile_size[1] + 22), 0.48, _FAINT)
    return sheet


def _legends(sheet: Picture, columns: Sequence[int], top: int, flow_range: float) -> None:
    """What the columns are, and what their colours mean."""
    names = ("Input", "Relative depth", "Optical flow", "Amodal masks")
    for x, name in zip(columns, names, strict=True):
        _text(sheet, name, (x, top + 10), 0.7, _INK)
    line = top + 38
    _text(sheet, "camera image", (columns[0], line), 0.48, _FAINT)

    ramp = depth_color(np.tile(np.linspace(0, 1, 150, dtype=np.float32), (12, 1)))
    end = _text(sheet, "near", (columns[1], line), 0.48, _FAINT) + 8
    sheet[line - 11 : line + 1, end : end + 150] = ramp
    _text(sheet, "far", (end + 158, line), 0.48, _FAINT)

    _text(sheet, f"to the next frame; full colour: {flow_range:g} px", (columns[2], line), 0.48, _FAINT)
    _wheel(sheet, columns[2] + _TILE_WIDTH - 27, line - 16, 26)

    x = columns[3]
    for name, opacity in (("visible", 0.35), ("hidden, inferred", 0.85)):
        color = tuple(round(255 - opacity * (255 - channel)) for channel in (220, 60, 110))
        cv2.rectangle(sheet, (x, line - 11), (x + 22, line + 1), color, -1)
        cv2.rectangle(sheet, (x, line - 11), (x + 22, line + 1), (220, 60, 110), 1)
        x = _text(sheet, name, (x + 30, line), 0.48, _FAINT) + 22


def _wheel(sheet: Picture, center_x: int, center_y: int, radius: int) -> None:
    """The colours of motion away from the centre, drawn four times as large and shrunk, for a smooth edge."""
    scale = 4
    axis = np.linspace(-1, 1, 2 * radius * scale, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)
    wheel = flow_color(grid, 1.0)
    wheel[np.linalg.norm(grid, axis=-1) > 1] = _BACKGROUND
    small = cv2.resize(wheel, (2 * radius, 2 * radius), interpolation=cv2.INTER_AREA)
    sheet[center_y - radius : center_y + radius, center_x - radius : center_x + radius] = small


def _tile(sheet: Picture, tile: Picture | str, x: int, y: int, size: tuple[int, int]) -> None:
    box = slice(y, y + size[1]), slice(x, x + size[0])
    if isinstance(tile, str):
        sheet[box] = (238, 236, 234)
        (width, _), _ = cv2.getTextSize(tile, _FONT, 0.5, 1)
        _text(sheet, tile, (x + (size[0] - width) // 2, y + size[1] // 2), 0.5, _FAINT)
    else:
        sheet[box] = cv2.resize(tile, size, interpolation=cv2.INTER_CUBIC)
    cv2.rectangle(sheet, (x - 1, y - 1), (x + size[0], y + size[1]), _RULE, 1)


def _text(sheet: Picture, text: str, origin: tuple[int, int], scale: float, color: tuple[int, int, int]) -> int:
    """Draw ``text`` with its baseline at ``origin``; returns where it ends."""
    cv2.putText(sheet, text, origin, _FONT, scale, color, 1, cv2.LINE_AA)
    (width, _), _ = cv2.getTextSize(text, _FONT, scale, 1)
    return origin[0] + int(width)
