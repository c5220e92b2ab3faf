"""Depth that continues the frame before: each camera's past, and the flow that brings it up to date."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_perception_ros.constants import constant
from diffusion_perception_ros.queries import Answers, Plan, View, render
from diffusion_perception_ros.request import Request
from diffusion_perception_ros.tasks import Picture, find_task
from diffusion_perception_ros.tasks.flow import displacement, pixels_per_displacement
from diffusion_perception_ros.tasks.geometry import Geometry
from diffusion_perception_ros.temporal.moving_average import moving_average
from diffusion_perception_ros.temporal.past import Past, follows

if TYPE_CHECKING:
    from diffusion_perception_ros.pipeline import PerceptionPipeline

# A latent that is to be started from has to be right; a mean can weigh.
_AGREES = 0.5

FlowKey = tuple[Hashable, Hashable, Hashable]


class Continuity:
    """The pasts of all cameras of a stream.

    Args:
        pipe: The pipeline.
    """

    def __init__(self, pipe: PerceptionPipeline) -> None:
        self._pipe = pipe
        self._pasts: dict[Hashable, Past] = {}
        self._flows: dict[FlowKey, Tensor] = {}
        self._continued: dict[Request, Tensor] = {}

    def reset(self, *cameras: Hashable) -> None:
        """Forget the pasts of these cameras."""
        for camera in cameras:
            self._pasts.pop(camera, None)
        self._flows = {key: flow for key, flow in self._flows.items() if key[0] not in cameras}

    def missing_flows(self, requests: Sequence[Request]) -> list[Request]:
        """What else to ask, so that there is a flow from each frame with depth to the next one with depth.

        There mostly is one already: from the call before, or in the same one.

        Args:
            requests: In the order of their frames.
        """
        last = {camera: past.request for camera, past in self._pasts.items()}
        known = {*self._flows, *(_flow_key(r) for r in requests if _asks(r, "flow"))}
        missing = []
        for request in requests:
            if not _continues(request):
                continue
            before = last.get(request.camera)
            last[request.camera] = request
            if before is None or not follows(request, before):
                continue
            key = request.camera, before.frame, request.frame
            if key not in known:
                known.add(key)
                missing.append(_about_flow(before, request))
        return missing

    def refine(self, plans: Sequence[Plan], answers: Sequence[Answers]) -> list[Answers]:
        """Depth as the mean along the flow, where that is wanted; the pasts are then these frames.

        Args:
            plans: Of the requests, in the order of their frames.
            answers: Those of the network.
        """
        for plan, answer in zip(plans, answers, strict=True):
            if "flow" in answer and plan.request.frame is not None:
                self._flows[_flow_key(plan.request)] = self._flow(plan, answer["flow"])
        refined = [self._refine(plan, answer) for plan, answer in zip(plans, answers, strict=True)]
        # Of use is only what goes on from the last frame.
        lasts = {(camera, past.request.frame) for camera, past in self._pasts.items()}
        self._flows = {key: flow for key, flow in self._flows.items() if key[:2] in lasts}
        return refined

    def start(self, request: Request) -> Tensor | None:
        """(M, C, h, w) clean latents for a warm start, NaN where nothing is known; None where there is no past.

        Waits for the device, since a cut decides which steps are taken.
        """
        image, geometry = self._image(request)
        carried = self._carry(request, geometry, image, request.ensemble_size)
        if carried is None or not carried[3]:
            return None
        depth, _, agree, _ = carried
        rows, columns = geometry.box
        square = depth.new_full((len(depth), geometry.resolution, geometry.resolution), torch.nan)
        square[:, rows, columns] = torch.where(agree > _AGREES, depth, torch.nan)
        if request.flip_members:
            square[1::2] = square[1::2].flip(-1)
        codec = self._pipe.codec
        latents = codec.encode(square.nan_to_num()[:, None].expand(-1, 3, -1, -1).to(self._pipe.dtype))
        unknown = F.max_pool2d(square.isnan().float()[:, None], codec.downscale) > 0
        return torch.where(unknown, torch.nan, latents)

    def take_continued(self, request: Request) -> bool:
        """Whether the depth of this request continued the past; waits for the device."""
        return bool(self._continued.pop(request, False))

    def _refine(self, plan: Plan, answer: Answers) -> Answers:
        request = plan.request
        if not _asks(request, "depth"):
            return answer
        if not _continues(request):
            self.reset(request.camera)
            return answer
        image, geometry = self._image(request)
        rows, columns = geometry.box
        square = answer["depth"][:, 0, 0].mean(dim=1)
        depth = square[:, rows, columns]
        count = torch.ones_like(depth[0])
        if request.temporal == "moving_average":
            carried = self._carry(request, geometry, image, len(depth))
            if carried is not None:
                past, frames, agree, self._continued[request] = carried
                has_scale = plan.encoding("depth").kind == "affine"
                depth, count = moving_average(past, frames, depth, agree, has_scale=has_scale)
                square = square.clone()
                square[:, rows, columns] = depth
                answer = answer | {"depth": square[:, None, None, None].expand_as(answer["depth"])}
        self._pasts[request.camera] = Past(request, geometry, image, depth, count)
        return answer

    def _carry(
        self, request: Request, geometry: Geometry, image: Tensor, members: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        past = self._pasts.get(request.camera)
        if past is None or not follows(request, past.request) or past.geometry != geometry:
            return None
        flow = self._flows.get((request.camera, past.request.frame, request.frame))
        return None if flow is None else past.carry(image, flow, members)

    def _image(self, request: Request) -> tuple[Tensor, Geometry]:
        """What the network sees of the image, without the padding around it."""
        metadata = self._pipe.metadata
        height, width = request.image.shape[:2]
        geometry = Geometry(height, width, metadata.resolution, request.resize)
        picture = Picture("image", metadata.tasks["depth"].image_interpolation)
        rows, columns = geometry.box
        return render([View.of(request, picture, geometry)], self._pipe.device)[0][:, rows, columns], geometry

    def _flow(self, plan: Plan, members: Tensor) -> Tensor:
        """(2, h, w) pixels of the network's square, of what the image covers."""
        geometry, metadata = plan.geometry, self._pipe.metadata
        scale = pixels_per_displacement(plan.encoding("flow"), geometry, metadata.flow_reference_size)
        rows, columns = geometry.box
        flow = displacement(members[:, 0]).mean(dim=0)[:, rows, columns]
        return flow * constant(scale, flow.device, flow.dtype).view(2, 1, 1)


def _about_flow(first: Request, second: Request) -> Request:
    """A request for the flow from the image of one to that of another, as cheap as there is."""
    return replace(
        first,
        tasks=(find_task("flow"),),
        next_image=second.image,
        next_frame=second.frame,
        visible_masks={},
        ensemble_size=1,
        flip_members=False,
        start=None,
    )


def _asks(request: Request, task: str) -> bool:
    return any(asked.name == task for asked in request.tasks)


def _continues(request: Request) -> bool:
    return request.temporal != "off" and _asks(request, "depth") and request.frame is not None


def _flow_key(request: Request) -> FlowKey:
    return request.camera, request.frame, request.next_frame
