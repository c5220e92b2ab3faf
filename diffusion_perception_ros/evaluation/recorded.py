"""Predictions that a bag holds already, from `replay` or from a robot, as answers to the samples of another bag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.evaluation.datasets.bag import BagSample
from diffusion_perception_ros.evaluation.datasets.messages import (
    amodal_masks_from_message,
    depth_from_message,
    flow_from_message,
    normals_from_message,
)
from diffusion_perception_ros.evaluation.samples import Sample
from diffusion_perception_ros.predictions import AmodalInstance, PerceptionOutput
from diffusion_perception_ros.replay.bag import NANOSECONDS, UndeserializableError, deserialize
from diffusion_perception_ros.replay.definitions import AMODAL_MASK_ARRAY, IMAGE, OPTICAL_FLOW, PERCEPTION_STATUS
from diffusion_perception_ros.replay.masks import LabelImages
from diffusion_perception_ros.replay.reader import BagReader

_TOPICS = {
    "depth": ("depth/relative", IMAGE),
    "flow": ("flow", OPTICAL_FLOW),
    "amodal": ("amodal/masks", AMODAL_MASK_ARRAY),
    "normals": ("normals", IMAGE),
}


class RecordedPredictions:
    """A `Predict` that looks its answers up, and leaves out what was not recorded.

    A prediction belongs to the frame with its stamp, flow to the pair with both its stamps. An object that was left out
    of a frame's masks gets its visible mask, as pixels without flow get zero flow: nothing was predicted to be hidden.

    Args:
        path: A rosbag2 folder, or a ``.mcap`` or ``.db3`` file.
        namespace: In front of the predictions' topics.

    Attributes:
        tasks: Names of the tasks that were recorded.
        name: Of what made them: the checkpoint, where the bag tells.
        objects_left_out: How many of the objects asked for had no mask.

    Raises:
        InputError: ``path`` is no bag, or has no predictions in that namespace.
    """

    def __init__(self, path: Path, namespace: str = "/perception") -> None:
        prefix = "/".join(["", *filter(None, namespace.split("/"))])
        self.objects_left_out = 0
        self._bag = BagReader(path)
        try:
            self._messages = {
                task: LabelImages(self._bag, f"{prefix}/{name}")
                for task, (name, kind) in _TOPICS.items()
                if _has(self._bag, f"{prefix}/{name}", kind)
            }
            self.tasks = tuple(self._messages)
            if not self.tasks:
                raise InputError(
                    f"{path} has no predictions under {prefix or '/'}; its topics are "
                    f"{', '.join(sorted(self._bag.topics)) or 'none'}. Say with --namespace where they are."
                )
            self._settings = {"predictions": str(path), "namespace": prefix, **_status(self._bag, f"{prefix}/status")}
        except BaseException:
            self.close()
            raise

        self.name = str(self._settings.get("checkpoint", path.name))

    @property
    def settings(self) -> dict[str, Any]:
        """Where the predictions are, what their status messages say, and `objects_left_out`, as JSON values."""
        return {**self._settings, "objects_left_out": self.objects_left_out}

    @property
    def damage(self) -> list[str]:
        """What is missing or damaged in the bag, as far as it has been read."""
        return self._bag.damage

    def __call__(self, sample: Sample, tasks: Sequence[str]) -> PerceptionOutput:
        """What was recorded about a sample of a `Bag`.

        Raises:
            InputError: A message is damaged, or not of the image's size.
        """
        if not isinstance(sample, BagSample):
            raise TypeError(f"{sample.name} is from no bag, so it has no stamp to look predictions up by")
        found = {task: self._message(task, sample) for task in tasks if task in self._messages}
        try:
            return PerceptionOutput(
                depth_relative=_depth(found.get("depth"), sample),
                flow=_flow(found.get("flow"), sample),
                amodal=self._amodal(found.get("amodal"), sample),
                extra=_normals(found.get("normals"), sample),
            )
        except ValueError as error:  # ImageError is one, and so is a mask that does not fit its box
            raise InputError(f"{sample.name}: a prediction is unusable: {error}.") from None

    def close(self) -> None:
        """Close the bag."""
        self._bag.close()

    def __enter__(self) -> RecordedPredictions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _message(self, task: str, sample: BagSample) -> Any:
        raw = self._messages[task].find(sample.frame)
        try:
            return None if raw is None else deserialize(raw)
        except UndeserializableError as error:
            raise InputError(f"{sample.name}: a prediction is damaged ({error}).") from None

    def _amodal(self, message: Any, sample: BagSample) -> list[AmodalInstance] | None:
        if message is None:
            return None
        _check_size("amodal masks", (message.height, message.width), sample)
        masks = amodal_masks_from_message(message)
        self.objects_left_out += len(set(sample.ids) - masks.keys())
        return [
            AmodalInstance(number, instance.visible, masks.get(number, instance.visible))
            for number, instance in zip(sample.ids, sample.instances, strict=True)
        ]


def _depth(message: Any, sample: BagSample) -> NDArray[np.float32] | None:
    if message is None:
        return None
    depth = depth_from_message(message)
    _check_size("relative depth", depth.shape, sample)
    return depth


def _flow(message: Any, sample: BagSample) -> NDArray[np.float32] | None:
    """None where the flow leads to another frame than the true one."""
    if message is None or _nanoseconds(message.next_stamp) != sample.next_stamp:
        return None
    flow = flow_from_message(message.flow)
    _check_size("flow", flow.shape[:2], sample)
    return flow


def _normals(message: Any, sample: BagSample) -> dict[str, NDArray[np.float32]]:
    if message is None:
        return {}
    normals = normals_from_message(message)
    _check_size("normals", normals.shape[:2], sample)
    return {"normals": normals}


def _check_size(what: str, size: tuple[int, ...], sample: BagSample) -> None:
    height, width = sample.image.shape[:2]
    if size != (height, width):
        raise ValueError(f"the {what} is of {size[1]}x{size[0]} pixels, but the image of {width}x{height}")


def _has(bag: BagReader, topic: str, kind: str) -> bool:
    return topic in bag.topics and bag.topics[topic].type == kind and bag.topics[topic].count > 0


def _status(bag: BagReader, topic: str) -> dict[str, Any]:
    """How the predictions were made: of every choice its value, or all values if it changed on the way."""
    if not _has(bag, topic, PERCEPTION_STATUS):
        return {}
    choices: dict[str, set[str | int]] = {name: set() for name in ("checkpoint", "device", "dtype", "sampler")}
    choices |= {"steps": set(), "ensemble": set()}
    degraded: Counter[str] = Counter()
    counts: dict[str, Any] = {}
    for raw in bag.messages([topic]):
        try:
            message = deserialize(raw)
        except UndeserializableError as error:
            raise InputError(f"a message on {topic} is damaged ({error}).") from None
        for name in ("checkpoint", "device", "dtype", "sampler"):
            choices[name].add(getattr(message, name))
        choices["steps"].update(map(int, message.num_inference_steps))
        choices["ensemble"].add(int(message.ensemble_size))
        degraded.update(filter(None, [message.degraded_reason]))
        counts = {
            "frames_received": int(message.frames_received),
            "frames_processed": int(message.frames_processed),
            "dropped": dict(zip(message.drop_reasons, map(int, message.drop_counts), strict=False)),
        }
    values = {name: sorted(found, key=str) for name, found in choices.items()}
    settings = {name: found[0] if len(found) == 1 else found for name, found in values.items()}
    return {**settings, **counts, "degraded": dict(degraded)}


def _nanoseconds(stamp: Any) -> int:
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)
