"""What a replay is asked to do."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.sampling.settings import SamplingSettings

STORAGES = ("mcap", "sqlite3")
_NAMESPACE = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)*")


@dataclass(frozen=True)
class ReplaySettings(SamplingSettings):
    """The options of a replay.

    Attributes:
        image_topic: The camera; None where the bag has one only.
        camera_info_topic: None for the image topic's sibling ``camera_info``.
        visible_masks_topic: Label images of visible masks, with the stamps of their frames.
        pair_topic: Where the second frames of pairs come from; None to pair consecutive frames of ``image_topic``.
        tasks: None for depth, flow and normals, and amodal where ``visible_masks_topic`` is given.
        storage: ``mcap`` or ``sqlite3``.
        namespace: Put in front of the output topics.
        temporal: How depth continues the frame before: ``off``, ``moving_average`` or ``warm_start``. What is written
            about a frame then depends on where the replay began.
        budget_ms: Time to predict one frame, ms, which then depends on the machine; None for no limit.
        batch_size: How many frames are predicted at once; None for what suits the device.
        max_frame_gap: Frames further apart than this many seconds make no pair.
        flow_color_range: Displacement in pixels that has full saturation; None to choose by the first frame's size.
        include_input: Copy images, camera infos and masks to the output.
        include_status: Write measured times into the status messages, which makes every run's output another.
        overwrite: Replace an existing output bag.

    Raises:
        InputError: A value makes no sense.
    """

    image_topic: str | None = None
    camera_info_topic: str | None = None
    visible_masks_topic: str | None = None
    pair_topic: str | None = None
    tasks: tuple[str, ...] | None = None
    storage: str = "mcap"
    namespace: str = "/perception"
    temporal: str = "off"
    budget_ms: float | None = None
    batch_size: int | None = None
    max_frame_gap: float | None = None
    flow_color_range: float | None = None
    include_input: bool = False
    include_status: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "namespace", "/" + self.namespace.strip("/") if self.namespace.strip("/") else "")
        if not _NAMESPACE.fullmatch(self.namespace):
            raise InputError(f"--namespace {self.namespace!r} is no ROS name; use letters, digits, '_' and '/'.")
        if self.storage not in STORAGES:
            raise InputError(f"--storage {self.storage!r} is unknown; use one of {', '.join(STORAGES)}.")
        for option, topic in (
            ("--image-topic", self.image_topic),
            ("--camera-info-topic", self.camera_info_topic),
            ("--visible-masks-topic", self.visible_masks_topic),
            ("--pair-topic", self.pair_topic),
        ):
            if topic is not None and not topic.strip("/"):
                raise InputError(f"{option} is empty; name a topic.")
        for option, value in (
            ("--budget-ms", self.budget_ms),
            ("--max-frame-gap", self.max_frame_gap),
            ("--flow-color-range", self.flow_color_range),
        ):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{option} is {value}; give a number above 0.")
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"--batch is {self.batch_size}; give a whole number from 1.")
        if self.tasks is not None and not self.tasks:
            raise InputError("--tasks is empty; name at least one task.")
        if self.tasks and "amodal" in self.tasks and self.visible_masks_topic is None:
            raise InputError(
                "the task 'amodal' needs to know what is visible; name the topic of label images "
                "with --visible-masks-topic."
            )

    def chosen_tasks(self, available: tuple[str, ...]) -> tuple[str, ...]:
        """The tasks to run, of those a checkpoint is able to do.

        Tasks that were asked for by name stay, so that the pipeline can refuse what it is not able to do.
        """
        if self.tasks is not None:
            return tuple(dict.fromkeys(self.tasks))
        wanted = ("depth", "flow", *(("amodal",) if self.visible_masks_topic else ()), "normals")
        return tuple(task for task in wanted if task in available)
