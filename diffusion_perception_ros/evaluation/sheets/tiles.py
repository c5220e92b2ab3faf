"""The pictures of one frame: what was predicted, what is true, and how far apart the two are."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from diffusion_perception_ros.conversions import amodal_overlay, depth_color, flow_color, normal_color
from diffusion_perception_ros.evaluation.metrics import MINIMUM_DEPTH, align_least_squares
from diffusion_perception_ros.evaluation.samples import DepthTruth, FlowTruth, InstanceTruth, NormalTruth
from diffusion_perception_ros.evaluation.sheets.drawing import Color, Picture
from diffusion_perception_ros.model.metadata import TargetEncoding
from diffusion_perception_ros.predictions import AmodalInstance
from diffusion_perception_ros.tasks.depth import faultless_depth, median_depth

UNKNOWN: Color = (206, 204, 202)  # BGR
RIGHT, MISSED, TOO_MUCH = (140, 150, 40), (40, 120, 240), (190, 60, 140)
# From no error to a full one.
_RAMP = np.array([(247, 247, 247), (141, 200, 253), (60, 120, 240), (40, 30, 170), (40, 0, 60)], float)
_FADED = 0.7


def depth_tiles(depth: NDArray[np.float32], truth: DepthTruth, encoding: TargetEncoding, full: float) -> list[Picture]:
    """Prediction, truth, and relative error of the prediction after the least-squares fit of scale and shift.

    Args:
        depth: (H, W) relative depth.
        truth: Metres.
        encoding: The checkpoint's encoding of depth, in whose range both are drawn; nothing is fitted for that.
        full: The relative error that is drawn in full colour.

    Returns:
        (H, W, 3) uint8 BGR each.
    """
    median = median_depth(encoding)
    true = faultless_depth(torch.from_numpy(truth.depth)[None], encoding)[0].numpy()
    target, valid = torch.from_numpy(truth.depth), torch.from_numpy(truth.valid)
    fitted = align_least_squares(torch.from_numpy(depth), torch.where(valid, target, 1), valid).clamp(min=MINIMUM_DEPTH)
    error = torch.where(valid, (fitted - target).abs() / target, torch.nan).numpy()
    return [depth_color(depth, median), depth_color(true, median), error_color(error / full)]


def flow_tiles(flow: NDArray[np.float32], truth: FlowTruth, color_range: float, full: float) -> list[Picture]:
    """Prediction, truth and end-point error.

    Args:
        flow: (H, W, 2) pixels.
        truth: Pixels.
        color_range: The displacement in pixels that is drawn in full colour.
        full: The error in pixels that is drawn in full colour.
    """
    true = np.where(truth.valid[..., None], truth.flow, np.float32(np.nan))
    error = np.linalg.norm(flow - true, axis=-1)
    colors = (_with_unknown(flow_color(vectors, color_range), vectors) for vectors in (flow, true))
    return [*colors, error_color(error / full)]


def amodal_tiles(
    image: NDArray[np.uint8], predicted: Sequence[AmodalInstance], truth: Sequence[InstanceTruth]
) -> list[Picture]:
    """Prediction and truth over the image, and of the hidden parts what is right, missed and too much."""
    true = [
        AmodalInstance(instance.id, instance.visible_mask, whole.amodal)
        for instance, whole in zip(predicted, truth, strict=True)
    ]
    found, hidden = (
        np.any([instance.mask & ~instance.visible_mask for instance in instances], axis=0)
        for instances in (predicted, true)
    )
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    comparison = np.broadcast_to(grey * (1 - _FADED) + 255 * _FADED, image.shape).astype(np.uint8)
    for part, color in ((found & hidden, RIGHT), (found & ~hidden, TOO_MUCH), (hidden & ~found, MISSED)):
        comparison[part] = color
    return [amodal_overlay(image, predicted), amodal_overlay(image, true), comparison]


def normal_tiles(normals: NDArray[np.float32], truth: NormalTruth, full: float) -> list[Picture]:
    """Prediction, truth and the angle between them.

    Args:
        normals: (H, W, 3) unit vectors.
        truth: Unit vectors.
        full: The angle in degrees that is drawn in full colour.
    """
    true = np.where(truth.valid[..., None], truth.normals, np.float32(np.nan))
    angle = np.degrees(np.arccos(np.clip((normals * true).sum(axis=-1), -1, 1)))
    return [*(_with_unknown(normal_color(vectors), vectors) for vectors in (normals, true)), error_color(angle / full)]


def error_color(share: NDArray[np.floating]) -> Picture:
    """Errors as shares of what is drawn in full colour: white is none, dark is full or more; NaN is grey.

    Args:
        share: (H, W).

    Returns:
        (H, W, 3) uint8 BGR.
    """
    place = np.nan_to_num(np.clip(share, 0, 1)) * (len(_RAMP) - 1)
    channels = [np.interp(place, np.arange(len(_RAMP)), channel) for channel in _RAMP.T]
    color = np.stack(channels, axis=-1).astype(np.uint8)
    color[np.isnan(share)] = UNKNOWN
    return color


def _with_unknown(color: Picture, vectors: NDArray[np.float32]) -> Picture:
    """As in the bags, but with what is unknown in grey, as unknown errors are."""
    color[~np.isfinite(vectors).all(axis=-1)] = UNKNOWN
    return color
