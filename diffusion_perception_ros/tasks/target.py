"""Ground truth, and what it looks like to the network: the training side of the tasks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Truth:
    """What is known about B frames, of the resolution that the network sees.

    Attributes:
        depth: (B, H, W) along z in metres; infinite in the sky, NaN where unknown.
        flow: (B, 2, H, W) pixels right and down to the next frame.
        flow_valid: (B, H, W) bool, the flow is known and its end is seen in the next frame.
        visible: (B, H, W) bool, what is seen of one instance.
        amodal: (B, H, W) bool, all of it, hidden or not.
    """

    depth: Tensor
    flow: Tensor
    flow_valid: Tensor
    visible: Tensor
    amodal: Tensor


@dataclass(frozen=True)
class Target:
    """Answers as the network should give them.

    Attributes:
        images: (B, labels, 3, H, W) float32 in [-1, 1].
        valid: (B, H, W) bool, where the truth is known and the encoding can express it.
    """

    images: Tensor
    valid: Tensor
