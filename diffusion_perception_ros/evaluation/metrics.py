"""Metrics of depth, flow and masks, each with its source, and the alignments that some of them are defined after."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MINIMUM_DEPTH = 1e-3
"""Metres. An affine fit can fall below zero, where logarithms and ratios are not defined."""
HIDDEN_SHARE = 0.05
"""A hidden part smaller than this share of the whole object is an edge, not a shape; it is not scored on its own."""
_OUTLIER_PIXELS, _OUTLIER_SHARE = 3.0, 0.05
_ANGLES = (11.25, 22.5, 30.0)
_CHANCE_DEGREES = 90.0


def align_least_squares(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Affine-invariant depth in the unit of the target: least-squares scale and shift over valid pixels.

    Ranftl et al. 2020 (MiDaS). Metrics after it are about shape, not metres: name them so.

    Args:
        prediction: (H, W), any unit.
        target: (H, W), metres.
        valid: (H, W) bool.

    Returns:
        (H, W) ``scale * prediction + shift``.
    """
    scale, shift = _fit_affine(prediction[valid], target[valid])
    return (scale * prediction.double() + shift).to(prediction.dtype)


def depth_metrics(prediction: Tensor, target: Tensor, valid: Tensor) -> dict[str, float]:
    """Metrics of Eigen et al. 2014 and of the KITTI benchmark, averaged over the batch.

    Args:
        prediction: (..., H, W) depth in metres, above zero where valid.
        target: (..., H, W) depth in metres, above zero where valid.
        valid: (..., H, W) bool.

    Returns:
        ``abs_relative_difference``, ``squared_relative_difference`` (m), ``rmse_linear`` (m), ``rmse_log``,
        ``delta1_acc`` to ``delta3_acc`` (shares within 1.25, 1.25^2, 1.25^3), ``i_rmse`` (1/m),
        ``silog_rmse`` (times 100) and ``log10`` (over all valid pixels of the batch at once, as released).
    """
    count = valid.sum((-1, -2))

    def mean(values: Tensor) -> Tensor:
        # Selected, not multiplied: an invalid pixel may hold infinity or NaN.
        return torch.where(valid, values, 0).sum((-1, -2)) / count

    difference = prediction - target
    log_difference = prediction.log() - target.log()
    ratio = torch.maximum(prediction / target, target / prediction)
    variance = mean(log_difference**2) - mean(log_difference) ** 2
    metrics = {
        "abs_relative_difference": mean(difference.abs() / target).mean(),
        "squared_relative_difference": mean(difference**2 / target).mean(),
        "rmse_linear": mean(difference**2).sqrt().mean(),
        "rmse_log": mean(log_difference**2).sqrt().mean(),
        **{f"delta{n}_acc": mean((ratio < 1.25**n).to(ratio.dtype)).mean() for n in (1, 2, 3)},
        "i_rmse": mean((1 / prediction - 1 / target) ** 2).sqrt().mean(),
        "silog_rmse": variance.mean().clamp(min=0).sqrt() * 100,
        "log10": (prediction[valid].log10() - target[valid].log10()).abs().mean(),
    }
    return {name: float(value) for name, value in metrics.items()}


def end_point_error(prediction: Tensor, target: Tensor, valid: Tensor | None = None) -> float:
    """Mean Euclidean distance between flow vectors (Otte & Nagel 1994; Baker et al. 2007).

    Args:
        prediction: (..., 2, H, W) pixels.
        target: (..., 2, H, W) pixels.
        valid: (..., H, W) bool, all by default.

    Returns:
        Pixels.
    """
    error = (prediction - target).norm(dim=-3)
    return float(error.mean() if valid is None else error[valid].mean())


def end_point_error_after_fit(prediction: Tensor, target: Tensor) -> float:
    """EPE after an affine fit of u and of v to the ground truth, as the released demo reports it.

    It says nothing about the flow a robot would get; for comparison with the released figures only.

    Args:
        prediction: (2, H, W), any unit.
        target: (2, H, W) pixels.
    """
    fits = [_fit_affine(p, t) for p, t in zip(prediction, target, strict=True)]
    fitted = [scale * p + shift for (scale, shift), p in zip(fits, prediction, strict=True)]
    return end_point_error(torch.stack(fitted), target)


def affine_invariant_depth_metrics(prediction: Tensor, target: Tensor, valid: Tensor) -> dict[str, float]:
    """Depth metrics of one image after the least-squares alignment, which says nothing about metres.

    The protocol of MiDaS and Marigold (Ke et al. 2024): scale and shift are fitted to the target over the valid pixels,
    then the aligned depth is cut off at `MINIMUM_DEPTH`. The metrics are those of Eigen et al. 2014.

    Args:
        prediction: (H, W), any unit, larger is farther.
        target: (H, W), metres.
        valid: (H, W) bool, at least one pixel.

    Returns:
        ``abs_rel``; ``delta1`` to ``delta3``, shares of pixels within a factor of 1.25, 1.25^2 and 1.25^3; ``rmse`` in
        metres; ``silog``, the standard deviation of the logarithmic error, times 100. Errors are NaN if the prediction
        has NaN at a valid pixel.
    """
    target = torch.where(valid, target, 1).double()
    aligned = align_least_squares(prediction.double(), target, valid).clamp(min=MINIMUM_DEPTH)
    metrics = depth_metrics(aligned, target, valid)
    return {
        "abs_rel": metrics["abs_relative_difference"],
        **{f"delta{n}": metrics[f"delta{n}_acc"] for n in (1, 2, 3)},
        "rmse": metrics["rmse_linear"],
        "silog": metrics["silog_rmse"],
    }


def flow_metrics(prediction: Tensor, target: Tensor, valid: Tensor) -> dict[str, float]:
    """Metrics of one flow field.

    Pixels without a prediction (NaN) get the error of zero flow, and ``coverage`` says how many there are: leaving them
    out would reward a method for keeping silent where it is hard.

    Args:
        prediction: (2, H, W) pixels, NaN where there is none.
        target: (2, H, W) pixels.
        valid: (H, W) bool, at least one pixel.

    Returns:
        ``epe``, the mean end-point error in pixels (Otte & Nagel 1994); ``epe_zero``, that of zero flow; ``fl_all``,
        the share of outliers, which are wrong by more than 3 pixels and more than 5 % of the true displacement (Menze &
        Geiger 2015, KITTI); ``coverage``, the share of valid pixels that have a prediction.
    """
    prediction, target = prediction[:, valid].double(), target[:, valid].double()
    magnitude = target.norm(dim=0)
    known = prediction.isfinite().all(dim=0)
    error = torch.where(known, (prediction - target).norm(dim=0), magnitude)
    outlier = (error > _OUTLIER_PIXELS) & (error > _OUTLIER_SHARE * magnitude)
    return {
        "epe": float(error.mean()),
        "epe_zero": float(magnitude.mean()),
        "fl_all": float(outlier.double().mean()),
        "coverage": float(known.double().mean()),
    }


def amodal_metrics(prediction: Tensor, visible: Tensor, amodal: Tensor) -> dict[str, float]:
    """Intersection over union of one object's masks, all of it and its hidden part alone.

    The hidden part is what is not visible, of the prediction as of the truth (Gao et al. 2023, C2F-Seg, mIoU_full and
    mIoU_occ). The visible mask is given, so it makes the first number look good by itself; the second is 0 for it.

    Args:
        prediction: (H, W) bool, the whole object.
        visible: (H, W) bool, its visible part, which the prediction was asked with.
        amodal: (H, W) bool, the true whole object.

    Returns:
        ``iou`` and ``iou_hidden``; the latter is NaN where less than `HIDDEN_SHARE` of the object is hidden.
    """
    hidden = amodal & ~visible
    is_hidden = int(hidden.sum()) >= max(1, HIDDEN_SHARE * int(amodal.sum()))
    return {
        "iou": intersection_over_union(prediction, amodal),
        "iou_hidden": intersection_over_union(prediction & ~visible, hidden) if is_hidden else math.nan,
    }


def normal_metrics(prediction: Tensor, target: Tensor, valid: Tensor) -> dict[str, float]:
    """Angles between surface normals (Fouhey et al. 2013).

    Pixels without a prediction (NaN) count as wrong by 90 degrees, the mean error of a random guess.

    Args:
        prediction: (3, H, W) vectors, NaN where there is none.
        target: (3, H, W) vectors.
        valid: (H, W) bool, at least one pixel.

    Returns:
        ``mean`` and ``median`` error in degrees; ``within_11.25``, ``within_22.5`` and ``within_30``, the shares of
        pixels that are wrong by at most so many degrees; ``coverage``, the share that has a prediction.
    """
    prediction, target = prediction[:, valid].double(), target[:, valid].double()
    known = prediction.isfinite().all(dim=0)
    # Exact for small angles, too, where the cosine is flat.
    angle = torch.atan2(torch.linalg.cross(prediction, target, dim=0).norm(dim=0), (prediction * target).sum(dim=0))
    degrees = torch.where(known, angle.rad2deg(), _CHANCE_DEGREES)
    return {
        "mean": float(degrees.mean()),
        "median": float(degrees.median()),
        **{f"within_{angle:g}": float((degrees <= angle).double().mean()) for angle in _ANGLES},
        "coverage": float(known.double().mean()),
    }


def intersection_over_union(a: Tensor, b: Tensor) -> float:
    """Of two bool masks (Jaccard 1901); 1 if both are empty."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def depth_flicker(
    prediction: Tensor, target: Tensor, valid: Tensor, flow: Tensor, flow_valid: Tensor, *, is_relative: bool = True
) -> float:
    """How much the depth of a place changes from one frame to the next, relative to its true depth or in metres.

    The optical-flow-based warping metric (OPW) of Wang et al. 2023 (NVDS), with the true flow, and relative as the
    temporal alignment error of Chen et al. 2025 (Video Depth Anything) is: the mean of
    |d(t+1)(x + flow) - d(t)(x)| / truth(t)(x), or without the division, in which what is far away weighs most.
    One scale and shift are fitted to the whole sequence, so that a scale that swings from frame to frame counts as
    flicker. Places really do get nearer and farther, so the truth has some flicker too: compare with that.

    Args:
        prediction: (T, H, W), any unit, at least two frames.
        target: (T, H, W) metres.
        valid: (T, H, W) bool, where ``target`` holds.
        flow: (T - 1, 2, H, W) pixels from each frame to the next.
        flow_valid: (T - 1, H, W) bool, the place is visible in the next frame.
        is_relative: Whether to divide by the true depth.

    Returns:
        A share of the depth, or metres; NaN where no place is visible twice.
    """
    target = torch.where(valid, target, 1).double()
    aligned = align_least_squares(prediction.double(), target, valid).clamp(min=MINIMUM_DEPTH)
    depth = torch.where(valid, aligned, 0)
    height, width = depth.shape[1:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([columns, rows]).to(flow) + torch.where(flow_valid[:, None], flow, 0)
    grid = 2 * places.movedim(1, -1).double() / torch.tensor([width - 1, height - 1]).to(flow) - 1
    later = torch.stack([depth[1:], valid[1:].double()], dim=1)
    warped, weight = F.grid_sample(later, grid, align_corners=True).unbind(dim=1)
    # All four neighbours must be valid; the tolerance is for the rounding of their weights.
    seen = flow_valid & valid[:-1] & (weight > 1 - 1e-6)
    change = (warped - depth[:-1]).abs()
    return float((change / target[:-1] if is_relative else change)[seen].mean())


def _fit_affine(source: Tensor, target: Tensor) -> tuple[float, float]:
    """Least-squares (scale, shift) that maps source to target; of a constant source the scale is 0."""
    x, y = source.flatten().double(), target.flatten().double()
    deviation = x - x.mean()
    variance = float(deviation.square().mean())
    scale = float((deviation * (y - y.mean())).mean()) / variance if variance else 0.0
    return scale, float(y.mean()) - scale * float(x.mean())
