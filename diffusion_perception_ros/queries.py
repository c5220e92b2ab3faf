"""From requests to the samples the network has to answer, and from their answers to predictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_perception_ros.model.metadata import CheckpointMetadata, TargetEncoding
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.request import Request
from diffusion_perception_ros.tasks import DecodeContext, Picture, Task
from diffusion_perception_ros.tasks.geometry import Geometry

Answers = dict[str, Tensor]
"""By task, (members, prompts, labels, 3, R, R) float32 images, nominally in [-1, 1]; mirrored ones are turned back."""

_OUTPUT_FIELDS = {f.name for f in fields(PerceptionOutput)}


@dataclass(frozen=True, eq=False)
class View:
    """A picture of one request as the network sees it.

    Attributes:
        request: The request.
        picture: The picture.
        geometry: From the request's images to the network's square.
        key: Views of equal keys look the same, also those of different requests: the first frame of one may be the
            second of another, and what no frame changes looks the same for all.
    """

    request: Request
    picture: Picture
    geometry: Geometry
    key: Hashable

    @classmethod
    def of(cls, request: Request, picture: Picture, geometry: Geometry) -> View:
        """With the key that follows from what the picture shows."""
        shown: Hashable
        if picture.source == "ones":
            return cls(request, picture, geometry, "ones")
        if picture.source == "visible_mask":
            shown = request, picture.instance
        else:
            name = request.frame if picture.source == "image" else request.next_frame
            array = request.image if picture.source == "image" else request.next_image
            shown = (request.camera, name) if name is not None else ("array", id(array))
        return cls(
            request, picture, geometry, (shown, geometry, picture.interpolation, picture.mirrored, picture.region)
        )


@dataclass(frozen=True, eq=False)
class Query:
    """One sample for the network: an image, a prompt, the label that says what is wanted, and whose noise."""

    request: Request
    image: View
    prompt: View
    label: int
    member: int


class Plan:
    """The samples that answer one request, and what their answers mean.

    Args:
        metadata: What the checkpoint declares.
        request: The request.

    Attributes:
        request: The request.
        geometry: From its images to the network's square.
        queries: The samples: tasks, of each the members, then prompts, then labels.
    """

    def __init__(self, metadata: CheckpointMetadata, request: Request) -> None:
        self.request = request
        self._contexts: list[tuple[Task, DecodeContext]] = []
        self._counts: list[int] = []
        self.queries: list[Query] = []
        height, width = request.image.shape[:2]
        geometry = self.geometry = Geometry(height, width, metadata.resolution, request.resize)
        for task in request.tasks:
            encoding = metadata.tasks[task.name]
            context = DecodeContext(
                encoding,
                geometry,
                metadata.flow_reference_size,
                request.aligner,
                request.visible_masks,
                task.regions(encoding, request.visible_masks),
            )
            queries = _queries(task, request, context)
            self.queries += queries
            self._contexts.append((task, context))
            self._counts.append(len(queries))

    def encoding(self, task: str) -> TargetEncoding:
        """The checkpoint's encoding of a task that is asked for."""
        return next(context.encoding for asked, context in self._contexts if asked.name == task)

    def answers(self, images: Tensor) -> Answers:
        """What was said, by task.

        Args:
            images: (queries, 3, R, R), decoded.
        """
        answers: Answers = {}
        for (task, context), answer in zip(self._contexts, images.split(self._counts), strict=True):
            members = answer.float().unflatten(0, (self.request.ensemble_size, -1, len(context.encoding.labels)))
            if self.request.flip_members:
                members = torch.stack([task.unmirror(a) if m % 2 else a for m, a in enumerate(members)])
            answers[task.name] = members
        return answers

    def decode(self, answers: Answers) -> PerceptionOutput:
        """The prediction."""
        outputs: dict[str, Any] = {}
        for task, context in self._contexts:
            outputs |= task.decode(answers[task.name], context)
        outputs = _to_host(outputs)
        extra = {name: outputs.pop(name) for name in outputs.keys() - _OUTPUT_FIELDS}
        return PerceptionOutput(**outputs, extra=extra)


def _to_host(fields: dict[str, Any]) -> dict[str, Any]:
    """Tensors to arrays; from a GPU all at once, into memory that it writes to by itself."""
    tensors = {name: value for name, value in fields.items() if isinstance(value, Tensor)}
    on_host = {name: tensor.to("cpu", non_blocking=True) for name, tensor in tensors.items()}
    for device in {tensor.device for tensor in tensors.values() if tensor.device.type == "cuda"}:
        torch.cuda.current_stream(device).synchronize()
    return {**fields, **{name: tensor.numpy() for name, tensor in on_host.items()}}


def _to_device(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """A copy, because frames may be read-only or negatively strided views of messages, which torch cannot take."""
    copy = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    copy.numpy()[...] = pixels
    return copy.to(device, non_blocking=True)


def _queries(task: Task, request: Request, context: DecodeContext) -> list[Query]:
    """The samples that one task needs; instances are asked about in regions."""
    encoding = context.encoding
    image = Picture("image", encoding.image_interpolation)
    prompts = [
        replace(prompt, region=context.regions.get(prompt.instance))
        for prompt in task.prompts(encoding, tuple(request.visible_masks))
    ]
    return [
        Query(
            request,
            View.of(request, replace(image, mirrored=mirrored, region=prompt.region), context.geometry),
            View.of(request, replace(prompt, mirrored=mirrored), context.geometry),
            label,
            member,
        )
        for member in range(request.ensemble_size)
        for mirrored in [request.flip_members and member % 2 == 1]
        for prompt in prompts
        for label in encoding.labels
    ]


def render(views: Sequence[View], device: torch.device) -> list[Tensor]:
    """(3, R, R) float32 tensors in [-1, 1] on the device."""
    frames: dict[int, Tensor] = {}
    return [_render(view, frames, device) for view in views]


def _render(view: View, frames: dict[int, Tensor], device: torch.device) -> Tensor:
    picture, request = view.picture, view.request
    if picture.source == "ones":
        return torch.ones(3, view.geometry.resolution, view.geometry.resolution, device=device)
    seen = view.geometry.within(picture.region)
    part = picture.region.slices if picture.region else ...
    if picture.source == "visible_mask":
        mask = _to_device(request.visible_masks[picture.instance][part].view(np.uint8), device)
        tensor = seen.to_network(mask[None].to(torch.float32).mul_(2).sub_(1), picture.interpolation).expand(3, -1, -1)
    else:
        image = request.image if picture.source == "image" else request.next_image
        if id(image) not in frames:
            assert image is not None
            frames[id(image)] = _to_device(image, device)
        # Brought to [-1, 1] when it is small. What surrounds it is grey, 0 there.
        pixels = frames[id(image)][part].permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format)
        tensor = seen.to_network(pixels, picture.interpolation, fill=127.5) / 127.5 - 1
    return tensor.flip(-1) if picture.mirrored else tensor


Noise = Mapping[tuple[int, int], Tensor]
"""(ensemble members, C, h, w) by seed and number of members."""


def draw_noise(
    queries: Sequence[Query], shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype
) -> Noise:
    """The noise of all members that begin with noise."""
    requests = dict.fromkeys(query.request for query in queries)
    wanted = {(r.seed, r.ensemble_size) for r in requests if r.sampler.initial_latent == "noise"}
    return {(seed, count): _members(seed, count, shape, device, dtype) for seed, count in wanted}


@lru_cache(maxsize=4)
def _members(
    seed: int, ensemble_size: int, shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype
) -> Tensor:
    """(ensemble_size, *shape); kept, since it is the same for every frame."""
    # Drawn on the host, so that a seed means the same on every device; one stream, so that the members
    # of a small ensemble are the first ones of a larger one.
    generator = torch.Generator().manual_seed(seed)
    members = torch.stack([torch.randn(shape, generator=generator) for _ in range(ensemble_size)])
    return members.to(device, dtype).contiguous(memory_format=torch.channels_last)


def starting_latents(queries: Sequence[Query]) -> Tensor:
    """What requests of a warm start begin at: (len(queries), C, h, w) clean latents."""
    return torch.stack([query.request.start[query.member] for query in queries if query.request.start is not None])


def initial_latents(queries: Sequence[Query], image_latents: Tensor, noise: Noise) -> Tensor:
    """What the third slot starts as.

    Args:
        queries: Samples of one batch, which take the same steps.
        image_latents: (len(queries), C, h, w), of their images.
        noise: From `draw_noise`.

    Returns:
        (len(queries), C, h, w).
    """
    kind = queries[0].request.sampler.initial_latent
    if kind == "image":
        return image_latents
    if kind == "zeros":
        return torch.zeros_like(image_latents)
    members = [noise[query.request.seed, query.request.ensemble_size][query.member] for query in queries]
    return stack_latents(members)


def stack_latents(latents: Sequence[Tensor]) -> Tensor:
    """(C, h, w) each to (B, C, h, w); channels stay last in memory, where they are."""
    if latents[0].stride(0) == 1:
        return torch.stack([latent.permute(1, 2, 0) for latent in latents]).permute(0, 3, 1, 2)
    return torch.stack(list(latents))


def split(
    queries: Sequence[Query], size: int, apart: Callable[[Query], bool] = lambda query: False
) -> Iterator[list[Query]]:
    """Samples that go through the network together: those that take the same steps, in equal parts of limited size.

    Args:
        queries: The samples.
        size: Most samples in a part.
        apart: Samples for which it is true and those for which it is not are in different parts.
    """
    groups: dict[Hashable, list[Query]] = {}
    for query in queries:
        groups.setdefault((query.request.schedule, apart(query)), []).append(query)
    for group in groups.values():
        parts = math.ceil(len(group) / size)
        length = math.ceil(len(group) / parts)
        yield from (group[i : i + length] for i in range(0, len(group), length))
