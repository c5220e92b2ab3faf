"""What needs no learning: every result stands beside these, on the same samples.

None of them sees more of a sample's truth than the least-squares alignment gives to every depth prediction, except that
the plane is fitted with three numbers instead of two, and the mean normal with two instead of none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.evaluation.samples import DepthTruth, InstanceTruth, NormalTruth

# cv2's types ask for an array to write to; None has it make one.
_NEW: Any = None
# DIS refuses smaller images.
_SMALLEST_FOR_DIS = 12


def mean_depth(truth: DepthTruth) -> NDArray[np.float64]:
    """(H, W), the same everywhere; after the alignment it is the mean of the valid depth."""
    return np.zeros(truth.depth.shape)


def plane(truth: DepthTruth) -> NDArray[np.float64]:
    """(H, W) metres: an affine function of column and row, fitted to the valid depth by least squares."""
    rows, columns = np.indices(truth.depth.shape)
    coordinates = np.stack([columns, rows, np.ones(truth.depth.shape)], axis=-1)
    coefficients, *_ = np.linalg.lstsq(coordinates[truth.valid], truth.depth[truth.valid].astype(float), rcond=None)
    return np.asarray(coordinates @ coefficients)


def zero_flow(image: NDArray[np.uint8], next_image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W, 2): nothing moves."""
    return np.zeros((*image.shape[:2], 2), np.float32)


def farneback(image: NDArray[np.uint8], next_image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W, 2) pixels by polynomial expansion (Farnebäck 2003), with the parameters of OpenCV's tutorial."""
    return np.asarray(cv2.calcOpticalFlowFarneback(_grey(image), _grey(next_image), _NEW, 0.5, 3, 15, 3, 5, 1.2, 0))


def dis(image: NDArray[np.uint8], next_image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W, 2) pixels by dense inverse search (Kroeger et al. 2016), OpenCV's medium preset; NaN on tiny images."""
    if min(image.shape[:2]) < _SMALLEST_FOR_DIS:
        return np.full((*image.shape[:2], 2), np.nan, np.float32)
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(search.calc(_grey(image), _grey(next_image), _NEW))


def visible_mask(truth: InstanceTruth) -> NDArray[np.bool_]:
    """(H, W): nothing is hidden."""
    return truth.visible


def convex_hull(truth: InstanceTruth) -> NDArray[np.bool_]:
    """(H, W): the convex hull of what is visible."""
    points = np.argwhere(truth.visible)[:, ::-1].astype(np.int32)
    hull = np.zeros(truth.visible.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(points), [1])
    return hull.astype(bool)


def mean_normal(truth: NormalTruth) -> NDArray[np.float32]:
    """(H, W, 3), the same everywhere: the direction of the mean of the true normals."""
    mean = truth.normals[truth.valid].mean(axis=0, dtype=float)
    return _everywhere(mean / np.linalg.norm(mean), truth)


def facing_wall(truth: NormalTruth) -> NDArray[np.float32]:
    """(H, W, 3): everything faces the camera."""
    return _everywhere(np.array([0, 0, -1]), truth)


def floor_and_wall(truth: NormalTruth) -> NDArray[np.float32]:
    """(H, W, 3): a level floor below the middle of the image, and above it a wall that faces the camera."""
    normals = facing_wall(truth)
    normals[len(normals) // 2 :] = 0, -1, 0
    return normals


def _everywhere(normal: NDArray[Any], truth: NormalTruth) -> NDArray[np.float32]:
    return np.tile(normal.astype(np.float32), (*truth.valid.shape, 1))


def _grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


DEPTH: Mapping[str, Callable[[DepthTruth], NDArray[np.float64]]] = {"mean_depth": mean_depth, "plane": plane}
FLOW: Mapping[str, Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]] = {
    "zero": zero_flow,
    "farneback": farneback,
    "dis": dis,
}
AMODAL: Mapping[str, Callable[[InstanceTruth], NDArray[np.bool_]]] = {
    "visible_mask": visible_mask,
    "convex_hull": convex_hull,
}
NORMALS: Mapping[str, Callable[[NormalTruth], NDArray[np.float32]]] = {
    "mean_normal": mean_normal,
    "facing_wall": facing_wall,
    "floor_and_wall": floor_and_wall,
}
