"""The layout of a contact sheet: rows of pictures in groups of columns, between headings and totals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from diffusion_perception_ros.evaluation.sheets.drawing import (
    FAINT,
    INK,
    PAPER,
    RULE,
    Picture,
    text,
    text_width,
)

_BANNER, _ON_BANNER, _ABSENT = (38, 92, 214), (255, 255, 255), (238, 236, 234)
_TILE_WIDTH = 216
_MARGIN, _GAP, _GROUP_GAP = 40, 6, 30


@dataclass(frozen=True)
class Group:
    """Pictures that belong together in every row.

    Attributes:
        heading: In large letters.
        columns: A name above each picture.
        legend: Draws on a sheet what the colours mean, from x on, on a line, with so many pixels from one column to the
            next.
    """

    heading: str
    columns: Sequence[str]
    legend: Callable[[Picture, int, int, int], None] | None = None


@dataclass(frozen=True)
class Row:
    """One frame.

    Attributes:
        tiles: For each group its pictures, (H, W, 3) uint8 BGR, or a few words on why there are none.
        captions: For each group a line below them.
    """

    tiles: Sequence[Sequence[Picture] | str]
    captions: Sequence[str]


@dataclass(frozen=True)
class Heading:
    """What stands above and below the rows.

    Attributes:
        title: In large letters.
        notes: In small ones, a line each.
        totals: For each group the lines at the very bottom, the first of them in ink.
        warning: What nobody may miss, on a banner across the sheet.
    """

    title: str
    notes: Sequence[str]
    totals: Sequence[Sequence[str]]
    warning: str | None = None


def contact_sheet(heading: Heading, groups: Sequence[Group], rows: Sequence[Row]) -> Picture:
    """Draw it.

    Args:
        heading: What stands above and below.
        groups: From left to right.
        rows: The frames, at least one; all pictures of one size.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    height, width = next(tile[0].shape[:2] for row in rows for tile in row.tiles if not isinstance(tile, str))
    tile_height = round(_TILE_WIDTH * height / width)
    lefts = [_MARGIN]
    for group in groups:
        lefts.append(lefts[-1] + len(group.columns) * (_TILE_WIDTH + _GAP) - _GAP + _GROUP_GAP)
    sheet_width = lefts.pop() - _GROUP_GAP + _MARGIN
    banner_top = 80 + 24 * len(heading.notes)
    legend_top = banner_top + (84 if heading.warning else 24)
    rows_top = legend_top + 92
    row_height = tile_height + 40
    totals_top = rows_top + len(rows) * row_height
    sheet: Picture = np.full((totals_top + 80, sheet_width, 3), PAPER, np.uint8)

    text(sheet, heading.title, (_MARGIN, 56), 1.1, INK)
    for number, line in enumerate(heading.notes):
        text(sheet, line, (_MARGIN, 88 + 24 * number), 0.5, FAINT)
    if heading.warning:
        _banner(sheet, heading.warning, banner_top)
    for left, group in zip(lefts, groups, strict=True):
        text(sheet, group.heading, (left, legend_top + 12), 0.75, INK)
        for column, name in enumerate(group.columns):
            text(sheet, name, (left + column * (_TILE_WIDTH + _GAP), legend_top + 78), 0.5, INK)
        if group.legend:
            group.legend(sheet, left, legend_top + 44, _TILE_WIDTH + _GAP)
    for index, row in enumerate(rows):
        _row(sheet, row, groups, lefts, rows_top + index * row_height, (_TILE_WIDTH, tile_height))
    cv2.line(sheet, (_MARGIN, totals_top), (sheet_width - _MARGIN, totals_top), RULE, 1)
    for left, lines in zip(lefts, heading.totals, strict=True):
        for number, line in enumerate(lines):
            text(sheet, line, (left, totals_top + 30 + 24 * number), 0.5, FAINT if number else INK)
    return sheet


def _banner(sheet: Picture, words: str, top: int) -> None:
    sheet[top : top + 52] = _BANNER
    text(sheet, words, ((sheet.shape[1] - text_width(words, 0.8)) // 2, top + 34), 0.8, _ON_BANNER)


def _row(
    sheet: Picture, row: Row, groups: Sequence[Group], lefts: Sequence[int], top: int, size: tuple[int, int]
) -> None:
    for left, group, tiles, caption in zip(lefts, groups, row.tiles, row.captions, strict=True):
        if isinstance(tiles, str):
            right = left + len(group.columns) * (size[0] + _GAP) - _GAP
            sheet[top : top + size[1], left:right] = _ABSENT
            middle = (left + right - text_width(tiles, 0.5)) // 2
            text(sheet, tiles, (middle, top + size[1] // 2), 0.5, FAINT)
        else:
            for column, tile in enumerate(tiles):
                x = left + column * (size[0] + _GAP)
                sheet[top : top + size[1], x : x + size[0]] = cv2.resize(tile, size, interpolation=cv2.INTER_CUBIC)
                cv2.rectangle(sheet, (x - 1, top - 1), (x + size[0], top + size[1]), RULE, 1)
        text(sheet, caption, (left, top + size[1] + 18), 0.45, FAINT)
