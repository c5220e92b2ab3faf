"""From scenes to frames: anti-aliased images and the truth at their pixel centres."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.scenes.antialiasing import anti_alias
from diffusion_perception_ros.scenes.flow import flow_to
from diffusion_perception_ros.scenes.instant import Instant, Layout
from diffusion_perception_ros.scenes.scene import MAX_INSTANCES, Scene
from diffusion_perception_ros.scenes.sensor import expose
from diffusion_perception_ros.scenes.shading import Illumination, radiance
from diffusion_perception_ros.scenes.surface import Slots, Surface, nearest, surface

# Pixels rendered at once: on a CPU what its caches hold, and one scene at a time.
_PIXELS_ON_CPU = 1 << 16
_PIXELS = 1 << 22


@dataclass(frozen=True)
class Frames:
    """Images and truth of T frames of B scenes, all on the device asked for.

    Attributes:
        image: (B, T, H, W, 3) uint8 RGB.
        depth: (B, T, H, W) float32 along z in metres, infinite in the sky.
        normals: (B, T, H, W, 3) float32 unit normals in the camera's frame, towards the camera; 0 in the sky.
        flow: (B, T, H, W, 2) float32, how many pixels right and down the place is in the next frame (time + 1).
        flow_valid: (B, T, H, W) bool, the place is inside the next image and not hidden in it.
        labels: (B, T, H, W) uint8, which instance is visible: 0 none, k the scene's k-th.
        amodal: (B, T, MAX_INSTANCES, H, W) bool; channel k - 1 is all of instance k inside the image, hidden or not.
        intrinsics: (B, 3, 3) float64; pixel centres are at integers, as in sensor_msgs/CameraInfo.
        camera_to_world: (B, T, 4, 4) float64, optical camera frame to the world (z up, metres).
        body_to_world: (B, T, 1 + MAX_INSTANCES, 4, 4) float64; the first is the static world, unused ones are identity.
    """

    image: Tensor
    depth: Tensor
    normals: Tensor
    flow: Tensor
    flow_valid: Tensor
    labels: Tensor
    amodal: Tensor
    intrinsics: Tensor
    camera_to_world: Tensor
    body_to_world: Tensor

    @property
    def visible(self) -> Tensor:
        """(B, T, MAX_INSTANCES, H, W) bool, disjoint: what is seen of each instance."""
        ids = torch.arange(1, MAX_INSTANCES + 1, device=self.labels.device, dtype=torch.uint8)
        return self.labels[:, :, None] == ids[:, None, None]


def render(
    scenes: Sequence[Scene],
    times: Sequence[int],
    height: int,
    width: int,
    device: torch.device | str = "cpu",
    *,
    ideal: bool = False,
) -> Frames:
    """Render every scene at every time.

    A frame depends on its scene and time only, never on what is rendered beside it.

    Args:
        scenes: At least one.
        times: Frame numbers, at least one; consecutive numbers are consecutive frames.
        height: Of the images in pixels.
        width: Of the images in pixels; the field of view is that of the width.
        device: Where to render.
        ideal: Without the sensor's noise and blur.

    Raises:
        InputError: Nothing to render, or images smaller than 8 x 8.
    """
    views = _views(scenes, times, height, width, torch.device(device))
    chunks = [{"image": _image(view, ideal), **_truth(view)} for view in views]
    size = len(scenes), len(times)
    fields = {name: torch.cat([chunk[name] for chunk in chunks]).unflatten(0, size) for name in chunks[0]}
    fields["intrinsics"] = fields["intrinsics"][:, 0]
    return Frames(**fields)


def render_images(
    scenes: Sequence[Scene],
    times: Sequence[int],
    height: int,
    width: int,
    device: torch.device | str = "cpu",
    *,
    ideal: bool = False,
) -> Tensor:
    """(B, T, H, W, 3) uint8 RGB, the images that `render` makes, without the truth.

    Arguments and errors are those of `render`.
    """
    views = _views(scenes, times, height, width, torch.device(device))
    images: Tensor = torch.cat([_image(view, ideal) for view in views]).unflatten(0, (len(scenes), len(times)))
    return images


@dataclass(frozen=True)
class _View:
    """What F frames show: the rays of their pixel centres and what those meet."""

    scenes: list[Scene]
    times: list[int]
    slots: Slots
    now: Instant
    x: Tensor
    y: Tensor
    focal: Tensor
    depth: Tensor
    amodal: Tensor
    surface: Surface


def _views(
    scenes: Sequence[Scene], times: Sequence[int], height: int, width: int, device: torch.device
) -> Iterator[_View]:
    """Every scene at every time, in portions that memory and caches hold."""
    if not scenes or not times:
        raise InputError("there is no frame to render; give at least one scene and one time.")
    if min(height, width) < 8:
        raise InputError(f"images of {width} x {height} pixels are too small; use at least 8 x 8.")
    if device.type == "cpu":
        # Scenes rarely fill the same boxes of the image, so together they cost more than one by one.
        jobs = [[(scene, time) for time in times] for scene in scenes]
        most = max(1, _PIXELS_ON_CPU // (height * width))
    else:
        jobs = [[(scene, time) for scene in scenes for time in times]]
        most = max(1, _PIXELS // (height * width))
    for job in jobs:
        for start in range(0, len(job), most):
            portion = job[start : start + most]
            yield _view([scene for scene, _ in portion], [time for _, time in portion], height, width, device)


def _view(scenes: list[Scene], times: list[int], height: int, width: int, device: torch.device) -> _View:
    layout = Layout.of(scenes)
    slots = Slots.of(layout, scenes, device)
    now = Instant.of(layout, scenes, times, device)
    focal = torch.from_numpy(width / 2 / now.tangent).to(device)[:, None, None]
    x = (torch.arange(width, device=device, dtype=torch.float64) - (width - 1) / 2) / focal
    y = (torch.arange(height, device=device, dtype=torch.float64)[:, None] - (height - 1) / 2) / focal
    amodal = torch.zeros(len(scenes), 1 + MAX_INSTANCES, height, width, dtype=torch.bool, device=device)
    depth, slot = nearest(slots, now, x, y, now.boxes(layout, height, width), amodal)
    return _View(scenes, times, slots, now, x, y, focal, depth, amodal, surface(slots, now, x, y, depth, slot))


def _image(view: _View, ideal: bool) -> Tensor:
    light = Illumination.of(view.scenes, view.now, view.depth.device)
    image = radiance(view.slots, view.now, light, view.surface, (1 / view.focal).float())
    anti_alias(image, view.slots, view.now, view.surface.face, view.x, view.y, view.focal)
    return expose(image, view.scenes, view.times, ideal)


def _truth(view: _View) -> dict[str, Tensor]:
    """The fields of `Frames` but the image, one row for each frame."""
    device = view.depth.device
    frames, height, width = view.depth.shape
    later = Instant.of(view.slots.layout, view.scenes, [time + 1 for time in view.times], device)
    flow, valid = flow_to(view.slots, view.surface, later, view.x, view.y, view.focal)
    labels = view.slots.body.index_select(0, view.surface.flat_slot.flatten()).view_as(view.surface.slot)
    intrinsics = np.zeros((frames, 3, 3))
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = width / 2 / view.now.tangent
    intrinsics[:, :, 2] = (width - 1) / 2, (height - 1) / 2, 1
    poses = np.tile(np.eye(4), (frames, 1 + MAX_INSTANCES, 1, 1))
    for pose, scene, time in zip(poses, view.scenes, view.times, strict=True):
        pose[: len(scene.names) + 1] = scene.motion.poses([time])[0]
    return {
        "depth": view.depth.float(),
        "normals": view.surface.normal.permute(1, 2, 3, 0).contiguous(),
        "flow": flow,
        "flow_valid": valid,
        "labels": labels.to(torch.uint8),
        "amodal": view.amodal[:, 1:],
        "intrinsics": torch.from_numpy(intrinsics).to(device),
        "camera_to_world": torch.from_numpy(view.now.camera_to_world).to(device),
        "body_to_world": torch.from_numpy(poses).to(device),
    }
