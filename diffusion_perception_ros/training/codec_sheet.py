"""The sample sheet of an image codec: what goes in, and below it what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from torch import Tensor

from diffusion_perception_ros.evaluation.sheets.contact_sheet import Group, Heading, Row, contact_sheet
from diffusion_perception_ros.evaluation.sheets.drawing import PAPER, Picture
from diffusion_perception_ros.training.codec_metrics import psnr

_SIDE, _GAP = 216, 6


def codec_sheet(
    title: str,
    notes: Sequence[str],
    columns: Mapping[str, Sequence[str]],
    inputs: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
) -> Picture:
    """Draw it, a row for each scene.

    Args:
        title: In large letters.
        notes: Lines below the title.
        columns: By kind of picture, names of those that each scene has.
        inputs: By kind, (scenes, columns, 3, R, R) in [-1, 1].
        outputs: What became of them, likewise.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    groups = [Group(kind.replace("_", " "), names) for kind, names in columns.items()]
    decibels = {kind: psnr(outputs[kind].flatten(0, 1), inputs[kind].flatten(0, 1)) for kind in columns}
    rows = []
    for scene in range(len(next(iter(inputs.values())))):
        tiles = [
            [_pair(*pictures) for pictures in zip(inputs[kind][scene], outputs[kind][scene], strict=True)]
            for kind in columns
        ]
        values = [decibels[kind].view(inputs[kind].shape[:2])[scene].tolist() for kind in columns]
        rows.append(Row(tiles, [", ".join(f"{value:.1f} dB" for value in each) for each in values]))
    totals = [[f"mean {decibels[kind].mean().item():.1f} dB"] for kind in columns]
    return contact_sheet(Heading(title, notes, totals), groups, rows)


def _pair(above: Tensor, below: Tensor) -> Picture:
    gap = np.full((_GAP, _SIDE, 3), PAPER, np.uint8)
    return np.concatenate([_bgr(above), gap, _bgr(below)])


def _bgr(picture: Tensor) -> Picture:
    levels = picture.clamp(-1, 1).add(1).mul(127.5).round().flip(0).permute(1, 2, 0).cpu().numpy()
    return np.asarray(cv2.resize(levels.astype(np.uint8), (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC), np.uint8)
