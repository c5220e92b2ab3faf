"""Comparing image and prompt, for those samples alone whose prompt is another image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Matched(NamedTuple):
    """The samples of a batch that have something to compare.

    Attributes:
        rows: (N,) their indices.
        share: None; or where ``rows`` are all, (B, 1, 1, 1), 1 for those that are meant and 0 for the others.
    """

    rows: Tensor
    share: Tensor | None

    def of(self, x: Tensor) -> Tensor:
        """(B, ...) to (N, ...)."""
        return x if self.share is not None else x[self.rows]

    def add(self, x: Tensor, change: Tensor) -> Tensor:
        """(B, ...) plus (N, ...)."""
        return x.index_add(0, self.rows, change) if self.share is None else x + change * self.share


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

    def forward(self, class_labels: Tensor) -> Matched | None:
        """Of (B,) labels; None where no sample is meant.

        On a device that the host would have to wait for it chooses all of them, and in training, where losses are about
        all.
        """
        mask = self.is_matched[class_labels.clamp_max(len(self.is_matched) - 1)]
        if class_labels.device.type == "cpu" and not self.training:
            rows = mask.nonzero()[:, 0]
            return Matched(rows, None) if len(rows) else None
        rows = torch.arange(len(mask), device=mask.device)
        return Matched(rows, mask.view(-1, 1, 1, 1))
