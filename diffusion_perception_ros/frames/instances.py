"""The instances of a label image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint8] | NDArray[np.uint16]


def largest_instances(labels: Labels, count: int) -> tuple[Labels, int]:
    """Keep the instances with the largest visible areas.

    Args:
        labels: (H, W) label image, 0 background.
        count: How many to keep.

    Returns:
        The label image without the remaining, and how many were left out.
    """
    ids, areas = np.unique(labels[labels > 0], return_counts=True)
    if len(ids) <= count:
        return labels, 0
    kept = ids[np.argsort(-areas, kind="stable")[:count]]
    remaining: Labels = labels.copy()
    remaining[~np.isin(labels, kept)] = 0
    return remaining, len(ids) - count
