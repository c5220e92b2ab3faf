"""What one call of the pipeline asks for, checked once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.metadata import CheckpointMetadata
from diffusion_perception_ros.sampling.ensemble import ALIGNERS
from diffusion_perception_ros.sampling.samplers import Sampler, check_sampling, find_sampler
from diffusion_perception_ros.tasks import Task, find_task
from diffusion_perception_ros.tasks.geometry import RESIZE_MODES

_FEW_LABELS = 32


@dataclass(frozen=True, eq=False)
class Request:
    """Validated arguments of one call; see ``PerceptionPipeline.__call__``.

    Attributes:
        camera: Whose frames these are.
        frame: What ``image`` is known by among its camera's frames: the same name always means the same pixels. None
            for no name: it is then known while the call lasts.
        next_frame: Likewise for ``next_image``.
        segment: Frames of different segments do not follow each other: time began anew between them.
        temporal: How depth continues the frame before, one of `TEMPORAL_MODES`.
        start: (members, C, h, w) clean latents to start from, NaN where nothing is known; see `sampling.warm_start`.
    """

    image: NDArray[np.uint8]
    next_image: NDArray[np.uint8] | None
    visible_masks: Mapping[int, NDArray[np.bool_]]
    tasks: tuple[Task, ...]
    sampler: Sampler
    num_inference_steps: int
    ensemble_size: int
    flip_members: bool
    aligner: str
    resize: str
    seed: int
    camera: Hashable = None
    frame: Hashable = None
    next_frame: Hashable = None
    segment: int = 0
    temporal: str = "off"
    start: Tensor | None = None

    @property
    def schedule(self) -> Hashable:
        """Which steps it takes; samples of equal schedules can share a batch."""
        return self.sampler.name, self.num_inference_steps, self.start is not None


def check_request(
    metadata: CheckpointMetadata,
    scheduler_config: Mapping[str, object],
    image: NDArray[np.uint8],
    next_image: NDArray[np.uint8] | None = None,
    visible_masks: NDArray[np.integer] | None = None,
    *,
    tasks: Sequence[str] | None = None,
    num_inference_steps: int | None = None,
    sampler: str | None = None,
    ensemble_size: int = 1,
    flip_members: bool = False,
    aligner: str = "standardize",
    resize: str = "squash",
    seed: int = 0,
) -> Request:
    """Check every argument and fill in the checkpoint's defaults; see ``PerceptionPipeline.__call__``.

    Raises:
        InputError: One sentence that names the argument, its value and the remedy.
    """
    _check_image("image", image)
    if next_image is not None:
        _check_image("next_image", next_image)
        if next_image.shape != image.shape:
            raise InputError(
                f"next_image is {_size(next_image)} but image is {_size(image)}; both frames need one size."
            )
    masks = {} if visible_masks is None else _split_masks(visible_masks, image)
    given = {"next_image": next_image is not None, "visible_masks": visible_masks is not None}
    if tasks is None:
        chosen = [find_task(name) for name in metadata.tasks]
        chosen = [task for task in chosen if all(given[argument] for argument in task.requires)]
        if not chosen:
            raise InputError(
                f"checkpoint {metadata.name!r} knows {', '.join(metadata.tasks)} only, for which "
                "next_image or visible_masks is missing; pass it."
            )
    else:
        chosen = _find_tasks(tasks, metadata, given)
    steps = default_steps(metadata, sampler) if num_inference_steps is None else num_inference_steps
    for name, value in (("num_inference_steps", steps), ("ensemble_size", ensemble_size), ("seed", seed)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise InputError(f"{name} must be a whole number, not {value!r}.")
    if not isinstance(flip_members, bool):
        raise InputError(f"flip_members must be True or False, not {flip_members!r}.")
    if not 0 <= seed < 2**63:
        raise InputError(f"seed must be from 0 to 2**63 - 1, not {seed}.")
    chosen_sampler = find_sampler(metadata.sampler if sampler is None else sampler)
    check_sampling(chosen_sampler, scheduler_config, int(steps), int(ensemble_size), flip_members)
    for name, text, allowed in (("aligner", aligner, ALIGNERS), ("resize", resize, RESIZE_MODES)):
        if text not in allowed:
            raise InputError(f"{name} {text!r} is unknown; use one of {', '.join(allowed)}.")
    return Request(
        image, next_image, masks, tuple(chosen), chosen_sampler, int(steps), int(ensemble_size), flip_members,
        aligner, resize, int(seed),
    )  # fmt: skip


def check_sample(
    metadata: CheckpointMetadata,
    latent_shape: tuple[int, int, int],
    rgb: Tensor,
    prompt: Tensor,
    class_labels: Tensor,
    latents: Tensor | None,
) -> None:
    """Check the tensors of ``PerceptionPipeline.sample``.

    Args:
        metadata: What the checkpoint declares.
        latent_shape: (C, h, w) of a latent, which is square.
        rgb: See there.
        prompt: See there.
        class_labels: See there.
        latents: See there.

    Raises:
        InputError: One sentence that names the argument and what it should be.
    """
    inputs = [("rgb", rgb, 3, metadata.resolution), ("prompt", prompt, 3, metadata.resolution)]
    if latents is not None:
        inputs.append(("latents", latents, *latent_shape[:2]))
    for name, x, depth, size in inputs:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise InputError(f"{name} must be a floating-point tensor, images in [-1, 1].")
        if x.ndim != 4 or x.shape[1:] != (depth, size, size) or not len(x):
            raise InputError(f"{name} has shape {tuple(x.shape)}; expected (B, {depth}, {size}, {size}).")
        if not x.isfinite().all():
            raise InputError(f"{name} holds NaN or infinity; replace them.")
        if len(x) != len(rgb):
            raise InputError(f"{name} has {len(x)} samples but rgb {len(rgb)}; they need one number.")
    integers = isinstance(class_labels, Tensor) and not class_labels.is_floating_point()
    if not integers or class_labels.shape != (len(rgb),):
        raise InputError(f"class_labels must be a tensor of {len(rgb)} whole numbers, one for each sample of rgb.")
    known = {label for task in metadata.tasks.values() for label in task.labels}
    unknown = set(class_labels.tolist()) - known
    if unknown:
        raise InputError(f"class label {min(unknown)} is unknown; use one of {sorted(known)}.")


def default_steps(metadata: CheckpointMetadata, sampler: str | None) -> int:
    """Steps where none are asked for: the checkpoint's own, but one for a sampler that takes just one."""
    one_step = sampler is not None and find_sampler(sampler).one_step
    return 1 if one_step else metadata.num_inference_steps


def _find_tasks(tasks: Sequence[str], metadata: CheckpointMetadata, given: Mapping[str, bool]) -> list[Task]:
    if isinstance(tasks, str):
        raise InputError(f"tasks must be a sequence of names, such as ({tasks!r},), not the string {tasks!r}.")
    if not isinstance(tasks, (tuple, list)) or not all(isinstance(name, str) for name in tasks):
        raise InputError(f"tasks must be a tuple of names such as {tuple(metadata.tasks)}, not {tasks!r}.")
    if not tasks:
        raise InputError(f"tasks is empty; choose from {', '.join(metadata.tasks)}.")
    if len(set(tasks)) < len(tasks):
        raise InputError(f"tasks {', '.join(tasks)} names one twice; name each once.")
    chosen = []
    for name in tasks:
        task = find_task(name)
        if name not in metadata.tasks:
            raise InputError(
                f"checkpoint {metadata.name!r} was not trained for task {name!r}; it knows {', '.join(metadata.tasks)}."
            )
        for argument in task.requires:
            if not given[argument]:
                raise InputError(f"task {name!r} needs the argument {argument}; pass it or leave the task out.")
        chosen.append(task)
    return chosen


def _check_image(name: str, image: NDArray[np.uint8]) -> None:
    if not isinstance(image, np.ndarray):
        raise InputError(f"{name} must be a numpy array of uint8 RGB, not {type(image).__name__}.")
    if image.dtype != np.uint8:
        detail = ", and it holds NaN" if image.dtype.kind == "f" and np.isnan(image).any() else ""
        raise InputError(f"{name} has dtype {image.dtype}{detail}; convert it to uint8 RGB with values from 0 to 255.")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(f"{name} has shape {image.shape}; expected (height, width, 3), none of them zero.")


def _split_masks(labels: NDArray[np.integer], image: NDArray[np.uint8]) -> dict[int, NDArray[np.bool_]]:
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iub":
        kind = labels.dtype if isinstance(labels, np.ndarray) else type(labels).__name__
        raise InputError(
            f"visible_masks is {kind}; expected an integer label image: 0 background, k the visible pixels of object k."
        )
    if labels.shape != image.shape[:2]:
        raise InputError(f"visible_masks has shape {labels.shape} but image is {_size(image)}; they need one size.")
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0:
        raise InputError(f"visible_masks holds the label {lowest}; labels start at 0 (background).")
    if not highest:
        raise InputError("visible_masks is empty (all background); pass None where no object is visible.")
    # To look for each of a few labels takes a tenth of the time that sorting all pixels takes.
    labels_there = range(1, highest + 1) if highest <= _FEW_LABELS else map(int, np.unique(labels[labels > 0]))
    masks = {label: labels == label for label in labels_there}
    return {label: mask for label, mask in masks.items() if mask.any()}


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
