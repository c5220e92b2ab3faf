"""Typed predictions in physical units, on the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class AmodalInstance:
    """The full extent of one partly hidden object.

    Attributes:
        id: The object's value in the label image it was asked with.
        visible_mask: (H, W) bool, the pixels that were given as visible.
        mask: (H, W) bool, visible and hidden pixels; contains ``visible_mask``.
        appearance: (H, W, 3) uint8 RGB, the completed object on white, or None where the checkpoint
            predicts masks only.
        agreement: Mean intersection over union of the ensemble members' masks with ``mask``, in [0, 1];
            NaN for a single member.
    """

    id: int
    visible_mask: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    appearance: NDArray[np.uint8] | None = None
    agreement: float = float("nan")


@dataclass(frozen=True, eq=False)
class PerceptionOutput:
    """What one call of the pipeline saw; tasks that were not asked for are None.

    Attributes:
        depth_relative: (H, W) float32 in [0, 1], larger is farther. Affine-invariant, never metres.
        depth_uncertainty: (H, W) float32 spread of the ensemble members, in the unit of ``depth_relative``.
        flow: (H, W, 2) float32 pixels of the input image, u right and v down, from ``image`` to
            ``next_image``; NaN where the displacement is not representable.
        flow_standard_deviation: (H, W) float32 pixels, spread of the ensemble members.
        max_displacement: The largest representable |u| and |v|, in pixels.
        amodal: One entry per label of the label image, in ascending order of id.
        depth_median: The value of ``depth_relative`` that stands for the median depth of a frame, where depth is known
            up to scale alone; None where it is known up to scale and shift.
        depth_metric: (H, W) float32 metres along Z, NaN where they are not representable; only from checkpoints that
            declare metric depth.
        warm_started: Whether depth continues that of the frame before, see ``PerceptionStream``.
        extra: Fields of further registered tasks, by field name.
        stage_ms: How long it took, by stage: ``encode`` from the arguments to latents, ``denoise``, and ``decode`` from
            latents to these fields.
    """

    depth_relative: NDArray[np.float32] | None = None
    depth_uncertainty: NDArray[np.float32] | None = None
    flow: NDArray[np.float32] | None = None
    flow_standard_deviation: NDArray[np.float32] | None = None
    max_displacement: tuple[float, float] | None = None
    amodal: list[AmodalInstance] | None = None
    depth_median: float | None = None
    depth_metric: NDArray[np.float32] | None = None
    warm_started: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    stage_ms: Mapping[str, float] = field(default_factory=dict)
