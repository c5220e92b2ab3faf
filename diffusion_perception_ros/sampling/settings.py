"""How a pipeline is called, as far as it does not depend on the frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SamplingSettings:
    """Arguments of ``PerceptionPipeline.__call__`` that stay the same from frame to frame.

    Attributes:
        num_inference_steps: None for the checkpoint's own.
        sampler: None for the checkpoint's own.
        ensemble_size: Ensemble members per prediction.
        flip_members: Every second ensemble member sees the mirrored image.
        resize: How images are fitted to the network's square: ``squash`` or ``letterbox``.
        seed: Of the noise; the same for every frame, so that it does not flicker.
    """

    num_inference_steps: int | None = None
    sampler: str | None = None
    ensemble_size: int = 1
    flip_members: bool = False
    resize: str = "squash"
    seed: int = 0

    @property
    def arguments(self) -> dict[str, Any]:
        """For ``pipe(image, ..., **settings.arguments)``."""
        return {name: getattr(self, name) for name in SamplingSettings.__dataclass_fields__}
