"""Many depth predictions, each with a scale and shift of its own, to one and its spread."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

ALIGNERS = ("standardize", "released")


def ensemble_depth(members: Tensor, aligner: str = "standardize") -> tuple[Tensor, Tensor | None]:
    """Median of the aligned members and their median absolute deviation.

    Args:
        members: (M, H, W) depth, affine-invariant.
        aligner: ``standardize``: every member gets the members' mean location and scale, in closed form on
            the device. ``released``: as the released code, see ``align_released``; its result is stretched
            to [0, 1].

    Returns:
        (H, W) depth and (H, W) uncertainty, the latter None for fewer than three members. A single member
        comes back as it is.
    """
    if len(members) == 1:
        return members[0], None
    aligned = align_released(members) if aligner == "released" else align_standardize(members)
    depth = aligned.median(dim=0).values
    uncertainty = (aligned - depth).abs().median(dim=0).values
    if aligner == "released":
        low, high = depth.aminmax()
        spread = (high - low).clamp(min=1e-6)
        depth, uncertainty = (depth - low) / spread, uncertainty / spread
    return depth, uncertainty if len(members) >= 3 else None


def align_standardize(members: Tensor) -> Tensor:
    """Give every member the mean location and scale of all.

    Location is the median and scale the mean absolute deviation from it, as in the scale- and shift-invariant
    loss of Ranftl et al. 2020 (MiDaS, equation 5). Unlike a least-squares fit to a reference member it is
    symmetric in the members and does not shrink noisy ones.

    Args:
        members: (M, H, W).

    Returns:
        (M, H, W), in the members' mean unit.
    """
    flat = members.flatten(1)
    location = flat.median(dim=1, keepdim=True).values
    scale = (flat - location).abs().mean(dim=1, keepdim=True).clamp(min=1e-6)
    aligned = (flat - location) / scale * scale.mean() + location.mean()
    return aligned.view_as(members)


def align_released(members: Tensor, max_resolution: int = 50, regularizer: float = 0.02) -> Tensor:
    """The released code's alignment (Marigold's, Ke et al. 2024, with ``max_res=50``).

    Two BFGS iterations from a min-max start on the pairwise root mean squared differences plus a pull towards
    [0, 1]; on the host. Its result depends on rounding (up to about 0.01), and running it to convergence
    collapses the prediction to the regulariser: it serves for comparisons, not as a default.

    Args:
        members: (M, H, W).
        max_resolution: Longer side at which the fit is made.
        regularizer: Weight of the pull.

    Returns:
        (M, H, W).
    """
    from scipy.optimize import minimize  # noqa: PLC0415  # a third of a second that nobody else needs to wait for

    small = members.to("cpu", torch.float32).unsqueeze(1)
    height, width = small.shape[-2:]
    if max(height, width) > max_resolution:
        factor = min(max_resolution / width, max_resolution / height)
        small = F.interpolate(small, size=(int(height * factor), int(width * factor)), mode="nearest-exact")

    def apply(parameters: NDArray[np.float64], depth: Tensor) -> Tensor:
        # The optimiser's parameters are float64, but the images stay in their own dtype, as released.
        scale, shift = (torch.from_numpy(p).to(depth).view(-1, 1, 1, 1) for p in np.split(parameters, 2))
        return depth * scale + shift

    def cost(parameters: NDArray[np.float64]) -> float:
        aligned = apply(parameters, small)
        pairs = combinations(range(len(aligned)), 2)
        distance = sum(((aligned[i] - aligned[j]) ** 2).mean().sqrt().item() for i, j in pairs)
        median = aligned.median(dim=0).values
        pull = median.min().abs().item() + (1 - median.max()).abs().item()
        return float(distance + regularizer * pull)

    low, high = small.flatten(1).aminmax(dim=1)
    scale = 1 / (high - low).clamp(min=1e-6)
    start = torch.cat([scale, -scale * low]).numpy()
    solution = minimize(cost, start, method="BFGS", tol=1e-3, options={"maxiter": 2})
    return apply(solution.x, members.unsqueeze(1)).squeeze(1)
