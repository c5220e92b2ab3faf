"""The settings, held against the checkpoint before any frame is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from diffusion_perception_ros.replay.settings import ReplaySettings

if TYPE_CHECKING:
    from diffusion_perception_ros.pipeline import PerceptionPipeline
    from diffusion_perception_ros.request import Request


def check_settings(pipe: PerceptionPipeline, settings: ReplaySettings) -> Request:
    """What is asked of the pipeline for every frame, with the checkpoint's defaults filled in.

    Returns:
        The request for a tiny black frame.

    Raises:
        InputError: The pipeline would refuse every frame.
    """
    # Here, because it brings torch, which is not needed to refuse a bag.
    from diffusion_perception_ros.request import check_request  # noqa: PLC0415

    frame = np.zeros((1, 1, 3), np.uint8)
    return check_request(
        pipe.metadata,
        pipe.scheduler_config,
        image=frame,
        next_image=frame,
        visible_masks=np.ones((1, 1), np.uint8),
        tasks=settings.chosen_tasks(tuple(pipe.metadata.tasks)),
        **settings.arguments,
    )
