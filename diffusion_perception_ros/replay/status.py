"""The status message of one frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diffusion_perception_ros.conversions import perception_status_fields
from diffusion_perception_ros.conversions.fields import Fields
from diffusion_perception_ros.replay.frames import Frame

if TYPE_CHECKING:
    from diffusion_perception_ros.pipeline import PerceptionPipeline
    from diffusion_perception_ros.request import Request


def choices(pipe: PerceptionPipeline, request: Request) -> Fields:
    """What is the same for all frames of a replay."""
    return {
        "checkpoint": pipe.metadata.name,
        "device": str(pipe.device),
        "dtype": str(pipe.dtype).removeprefix("torch."),
        "codec": pipe.decoding(request.num_inference_steps),
        "sampler": request.sampler.name,
        "ensemble_size": request.ensemble_size,
    }


def frame_status(
    frame: Frame,
    second: Frame | None,
    steps: Mapping[str, int],
    received: int,
    processed: int,
    skipped: Mapping[str, int],
    **known: Any,
) -> Fields:
    """diffusion_perception_ros/PerceptionStatus about one frame.

    Args:
        frame: The frame.
        second: The second frame of the pair that flow was computed for.
        steps: Number of steps of each task that was computed.
        received: Image messages read so far.
        processed: Frames processed so far, this one included.
        skipped: Messages skipped so far, by reason.
        **known: Further fields: the replay's choices, measured times.
    """
    reasons = sorted(skipped)
    return perception_status_fields(
        frame.header,
        pair_stamp=second.header["stamp"] if second else {"sec": 0, "nanosec": 0},
        tasks=list(steps),
        num_inference_steps=list(steps.values()),
        frames_received=received,
        frames_processed=processed,
        drop_reasons=reasons,
        drop_counts=[skipped[reason] for reason in reasons],
        **known,
    )
