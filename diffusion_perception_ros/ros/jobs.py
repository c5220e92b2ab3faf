"""From what waits in the mailbox to calls of the model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from diffusion_perception_ros.frames.frame import Frame
from diffusion_perception_ros.frames.instances import Labels, largest_instances
from diffusion_perception_ros.frames.intake import LiveFrame, Masked, Pair
from diffusion_perception_ros.frames.pairing import reason_against
from diffusion_perception_ros.ros.settings import NodeSettings


@dataclass
class Job:
    """One call of the model: everything that is asked about one frame.

    Attributes:
        frame: The frame.
        second: The frame that flow goes to.
        labels: Its visible masks.
        omitted: Instances left out of them.
        tasks: Names of tasks.
    """

    frame: LiveFrame
    second: LiveFrame | None = None
    labels: Labels | None = None
    omitted: int = 0
    tasks: list[str] = field(default_factory=list)

    @property
    def has_objects(self) -> bool:
        """Whether anything is visible in the masks."""
        return self.labels is not None and bool(self.labels.any())


def plan(
    items: Mapping[str, Any],
    wanted: Collection[str],
    settings: NodeSettings,
    last_processed: LiveFrame | None,
    drop: Callable[[str], None],
) -> list[Job]:
    """What to compute, the newest frame first; what concerns one frame is one job.

    Args:
        items: The mailbox' content: ``frame``, ``pair``, ``masks``.
        wanted: Tasks that somebody subscribes to.
        settings: How to pair, how many instances.
        last_processed: The frame of the last results.
        drop: Counts, by reason, a pair that makes no sense.
    """
    jobs: dict[Frame, Job] = {}

    def job(frame: LiveFrame) -> Job:
        return jobs.setdefault(frame, Job(frame))

    frame: LiveFrame | None = items.get("frame")
    if frame is not None:
        for task in ("depth", "normals"):
            if task in wanted:
                job(frame).tasks.append(task)
    pair = _pair(items.get("pair"), frame, settings, last_processed)
    if pair is not None and "flow" in wanted:
        reason = reason_against(pair.first, pair.second, settings.max_frame_gap)
        if reason:
            drop(f"pair_{reason}")
        else:
            job(pair.first).second = pair.second
            job(pair.first).tasks.append("flow")
    masked: Masked | None = items.get("masks")
    if masked is not None and "amodal" in wanted:
        about = job(masked.frame)
        about.labels, about.omitted = largest_instances(masked.labels, settings.max_instances)
        about.tasks.append("amodal")
    return list(jobs.values())


def _pair(
    pair: Pair | None, frame: LiveFrame | None, settings: NodeSettings, last_processed: LiveFrame | None
) -> Pair | None:
    if settings.flow_pair == "adjacent" or settings.pairing == "topics":
        return pair
    return Pair(last_processed, frame) if frame is not None and last_processed is not None else None
