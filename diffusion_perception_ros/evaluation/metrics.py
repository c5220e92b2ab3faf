"""Metrics of depth and flow, each with its source, and the alignments that some of them are defined after."""

from __future__ import annotations

import torch
from torch import Tensor


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
        "silog_rmse": variance.mean().sqrt() * 100,
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


def _fit_affine(source: Tensor, target: Tensor) -> tuple[float, float]:
    """Least-squares (scale, shift) that maps source to target."""
    x, y = source.flatten().double(), target.flatten().double()
    solution = torch.linalg.lstsq(torch.stack([x, torch.ones_like(x)], dim=1), y.unsqueeze(1)).solution
    return float(solution[0]), float(solution[1])
