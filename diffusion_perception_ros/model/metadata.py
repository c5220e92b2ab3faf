"""What a checkpoint says about itself: resolution, tasks, target encodings, sampler defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from diffusion_perception_ros.errors import InputError

INTERPOLATIONS = ("nearest", "nearest-exact", "bilinear", "area")


@dataclass(frozen=True)
class TargetEncoding:
    """How one task is asked for and how its answer is written into an image in [-1, 1].

    Attributes:
        kind: The encoding's name, one that the task's file knows how to decode.
        labels: Class label of each of the task's images (flow has two: dx and dy).
        image_interpolation: How the camera image is resized to the network's resolution.
        parameters: Numbers of the encoding, such as the displacement that 1.0 stands for.
    """

    kind: str
    labels: tuple[int, ...]
    image_interpolation: str = "bilinear"
    parameters: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.image_interpolation not in INTERPOLATIONS:
            raise InputError(
                f"image_interpolation {self.image_interpolation!r} is unknown; use one of {', '.join(INTERPOLATIONS)}."
            )
        for name, value in self.parameters.items():
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"the encoding {self.kind!r} has {name} = {value}; expected a number above 0.")


@dataclass(frozen=True)
class CheckpointMetadata:
    """Everything a pipeline must know beyond weights and network sizes.

    Attributes:
        resolution: Side of the square image the network sees, in pixels.
        tasks: Target encoding of each task the checkpoint was trained for.
        flow_reference_size: (width, height) of the frame in whose pixels flow targets are measured. The
            released generalist squashed 512x384 frames to 512x512 but left v in 384-row pixels.
        sampler: Name of the default sampler.
        num_inference_steps: Default number of steps.
        decoder: Name of the default decoder: ``full`` (the codec's), or one in the checkpoint's folder.
        name: For messages and reports.
        is_random: The weights were drawn at random, not trained.
    """

    resolution: int
    tasks: Mapping[str, TargetEncoding]
    flow_reference_size: tuple[int, int] = (512, 384)
    sampler: str = "ddim"
    num_inference_steps: int = 50
    decoder: str = "full"
    name: str = "unnamed"
    is_random: bool = False

    def __post_init__(self) -> None:
        if min(self.resolution, *self.flow_reference_size, self.num_inference_steps) < 1:
            raise InputError("resolution, flow_reference_size and num_inference_steps must be above 0.")
        if not self.tasks:
            raise InputError("a checkpoint must declare at least one task.")

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> CheckpointMetadata:
        """The inverse of ``to_dict``.

        Raises:
            InputError: A field is missing, unknown or of the wrong type; ``where`` names the file.
        """
        try:
            unknown = set(values) - {f.name for f in fields(cls)}
            if unknown:
                raise ValueError(f"unknown field {sorted(unknown)[0]!r}")
            if not isinstance(values["is_random"], bool):
                raise ValueError("is_random must be true or false")
            tasks = {
                str(name): TargetEncoding(
                    kind=str(task["kind"]),
                    labels=tuple(int(label) for label in task["labels"]),
                    image_interpolation=str(task["image_interpolation"]),
                    parameters={str(k): float(v) for k, v in task["parameters"].items()},
                )
                for name, task in values["tasks"].items()
            }
            width, height = values["flow_reference_size"]
            return cls(
                resolution=int(values["resolution"]),
                tasks=tasks,
                flow_reference_size=(int(width), int(height)),
                sampler=str(values["sampler"]),
                num_inference_steps=int(values["num_inference_steps"]),
                decoder=str(values.get("decoder", "full")),  # older checkpoints have no other
                name=str(values["name"]),
                is_random=values["is_random"],
            )
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        except KeyError as error:
            raise InputError(f"{where}: the field {error} is missing.") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{where}: {error}.") from None
