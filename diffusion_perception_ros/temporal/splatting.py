"""Forward warping: what is known at the pixels of one frame, at the pixels of the next."""

from __future__ import annotations

import torch
from torch import Tensor


def splat(values: Tensor, flow: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Move pixels along the flow; where several arrive, the mean by their weights.

    Softmax splatting of Niklaus & Liu 2020 (CVPR, equation 12), with the exponentials of the importance as weights.
    Each pixel is shared out bilinearly between the four around the place where it arrives.

    Args:
        values: (B, C, H, W).
        flow: (B, 2, H, W) pixels right and down.
        weights: (B, H, W) above zero, as `nearness`; a pixel of weight zero goes nowhere.

    Returns:
        (B, C, H, W) values, zero where nothing arrives, and (B, H, W) how many pixels arrive: about one where the
        next frame shows what this one did, next to nothing where it shows something new.
    """
    batch, channels, height, width = values.shape
    rows = torch.arange(height, device=values.device, dtype=values.dtype).view(-1, 1)
    columns = torch.arange(width, device=values.device, dtype=values.dtype)
    x, y = columns + flow[:, 0], rows + flow[:, 1]
    left, top = x.floor(), y.floor()
    weights = weights.unsqueeze(1)
    source = torch.cat([values * weights, weights, (weights > 0).to(values)], dim=1).flatten(2)
    total = source.new_zeros(source.shape)
    for column in (left, left + 1):
        for row in (top, top + 1):
            share = (1 - (x - column).abs()) * (1 - (y - row).abs())
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            share = torch.where(inside, share, 0).flatten(1).unsqueeze(1)
            target = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).long().flatten(1)
            total.scatter_add_(2, target.unsqueeze(1).expand_as(source), source * share)
    total = total.view(batch, -1, height, width)
    tiny = torch.finfo(values.dtype).tiny
    return total[:, :channels] / total[:, channels:-1].clamp(min=tiny), total[:, -1]


def nearness(depth: Tensor) -> Tensor:
    """Weights that let the nearer of two surfaces, which hides the other, win.

    Args:
        depth: Network values, larger is farther, nominally in [-1, 1].

    Returns:
        In (0, 1]: a surface a quarter of the range nearer weighs e^4 times as much.
    """
    return (-8 * (depth.clamp(-1, 1) + 1)).exp()
