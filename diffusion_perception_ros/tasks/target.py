"""Ground truth, and what it looks like to the network: the training side of the tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
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
        normals: (B, 3, H, W) unit normals in the camera's optical frame (x right, y down, z forward), towards the
            camera; zero where there is no surface, NaN where unknown. None where no task learns from them.
        appearance: (B, 3, H, W) in [0, 1], all of the instance on white. None where nobody knows its hidden parts.
    """

    depth: Tensor
    flow: Tensor
    flow_valid: Tensor
    visible: Tensor
    amodal: Tensor
    normals: Tensor | None = None
    appearance: Tensor | None = None

    def __getitem__(self, frames: slice | Tensor) -> Truth:
        """Of some of the frames."""
        return self.map(lambda field: field[frames])

    def map(self, change: Callable[[Tensor], Tensor]) -> Truth:
        """With every field that is known changed."""
        return replace(self, **{name: change(field) for name, field in vars(self).items() if field is not None})

    @classmethod
    def cat(cls, truths: Sequence[Truth]) -> Truth:
        """Of the frames of each, one after the other; what is not known of all is None."""
        fields = {name: [getattr(truth, name) for truth in truths] for name in vars(truths[0])}
        known = {name: values for name, values in fields.items() if not any(value is None for value in values)}
        return cls(**{name: torch.cat(values) for name, values in known.items()})


@dataclass(frozen=True)
class Target:
    """Answers as the network should give them.

    Attributes:
        images: (B, labels, 3, H, W) float32 in [-1, 1].
        valid: (B, H, W) bool, where the truth is known and the encoding can express it.
    """

    images: Tensor
    valid: Tensor
