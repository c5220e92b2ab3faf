"""Comparing image and prompt, for those samples alone whose prompt is another image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffusion_perception_ros.model.convolutions import Correlation, Lookup

Compared = tuple[Tensor, Tensor]


class Matching(nn.Module):
    """Which samples of a batch have something to compare: comparing is much of what a thin decoder costs.

    Args:
        labels: Class labels whose prompt is another image.
    """

    def __init__(self, labels: Sequence[int]) -> None:
        super().__init__()
        is_matched = torch.zeros(max(labels, default=0) + 2, dtype=torch.bool)  # the last row is for all labels beyond
        is_matched[list(labels)] = True
        self.register_buffer("is_matched", is_matched, persistent=False)
        self.is_matched: Tensor

    def correlate(
        self, correlation: Correlation, first: Tensor, second: Tensor, class_labels: Tensor
    ) -> tuple[list[Tensor], Compared | None]:
        """See ``Correlation``; 0 for the samples that are not compared, None if none is."""
        rows, weight = self._rows(class_labels)
        if not len(rows):
            return [], None
        matches, (one, other) = correlation(first[rows], second[rows])
        scattered = [_scatter(x * weight, rows, len(first)) for x in (*matches, one, other)]
        return scattered[:-2], (scattered[-2], scattered[-1])

    def look(self, lookup: Lookup, x: Tensor, compared: Compared, class_labels: Tensor) -> Tensor:
        """See ``Lookup``; samples that are not compared stay as they are."""
        rows, weight = self._rows(class_labels)
        if not len(rows):
            return x
        found = lookup(x[rows], *(side[rows] for side in compared)) - x[rows]
        return x + _scatter(found * weight, rows, len(x))

    def _rows(self, class_labels: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) indices of samples and (N, 1, 1, 1) weights of 0 and 1.

        On a device that the host would have to wait for these are all samples; and in training, where losses are about
        all of them.
        """
        mask = self.is_matched[class_labels.clamp_max(len(self.is_matched) - 1)]
        choose = class_labels.device.type == "cpu" and not self.training
        rows = mask.nonzero()[:, 0] if choose else torch.arange(len(mask), device=mask.device)
        return rows, mask[rows].view(-1, 1, 1, 1)


def _scatter(x: Tensor, rows: Tensor, count: int) -> Tensor:
    """(N, ...) of some rows to (count, ...), 0 elsewhere."""
    return x if len(x) == count else x.new_zeros(count, *x.shape[1:]).index_copy(0, rows, x)
