"""Synthetic scenes as the messages of a bag: what a robot has, and the truth that only a simulator knows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from diffusion_perception_ros.conversions import (
    amodal_mask_array_fields,
    header_fields,
    image_fields,
    optical_flow_fields,
)
from diffusion_perception_ros.conversions.fields import Fields
from diffusion_perception_ros.predictions import AmodalInstance, PerceptionOutput
from diffusion_perception_ros.replay.bag import NANOSECONDS
from diffusion_perception_ros.replay.binding import bind
from diffusion_perception_ros.replay.definitions import AMODAL_MASK_ARRAY, CAMERA_INFO, IMAGE, OPTICAL_FLOW
from diffusion_perception_ros.replay.writer import BagWriter
from diffusion_perception_ros.scenes import Frames, Scene, draw_scene, render

IMAGE_TOPIC, MASKS_TOPIC = "/camera/image_raw", "/camera/visible_masks"
SCENE_GAP = 2.0
"""Seconds at least between the last frame of a scene and the first of the next."""
_CAMERA_FRAME = "camera_optical_frame"
_START = 1  # seconds: a stamp of 0 means "not set" to many ROS nodes


def record_scenes(
    bag: BagWriter,
    seeds: Sequence[int],
    frames: int,
    size: tuple[int, int],
    rate: float = 10.0,
    device: torch.device | str = "cpu",
    progress: Callable[[], object] = lambda: None,
) -> None:
    """Write scenes into a bag, one after the other.

    Args:
        bag: Where to.
        seeds: The scenes.
        frames: Of each scene.
        size: Height and width of the images in pixels.
        rate: Frames a second.
        device: Where to render.
        progress: Called after each frame.

    Raises:
        InputError: The images are smaller than 8 x 8, or the bag cannot be written.
    """
    # The tensors of one frame are too small to share: on a busy machine, threads mostly wait for one another.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        start = _START
        for seed in seeds:
            scene = draw_scene(seed)
            for time in range(frames):
                rendered = render([scene], [time], *size, device)
                stamp, next_stamp = (_stamp(start + (time + k) / rate) for k in range(2))
                log_time = stamp["sec"] * NANOSECONDS + stamp["nanosec"]
                for topic, kind, fields in _messages(scene, rendered, stamp, next_stamp, last=time == frames - 1):
                    bag.write(topic, bind(kind, fields), log_time)
                progress()
            start += math.ceil(frames / rate + SCENE_GAP)
    finally:
        torch.set_num_threads(threads)


def _stamp(seconds: float) -> Fields:
    nanoseconds = round(seconds * NANOSECONDS)
    return {"sec": nanoseconds // NANOSECONDS, "nanosec": nanoseconds % NANOSECONDS}


def _messages(
    scene: Scene, frames: Frames, stamp: Fields, next_stamp: Fields, last: bool
) -> Iterator[tuple[str, str, Fields]]:
    """Topic, type and fields of everything about one frame."""
    header = header_fields(stamp["sec"], stamp["nanosec"], _CAMERA_FRAME)
    image, depth, normals = _first(frames.image), _first(frames.depth), _first(frames.normals)
    flow, valid = _first(frames.flow), _first(frames.flow_valid)
    labels, amodal = _first(frames.labels), _first(frames.amodal)
    height, width = depth.shape
    camera_info = _camera_info_fields(header, frames.intrinsics[0].cpu().numpy(), height, width)
    yield IMAGE_TOPIC, IMAGE, image_fields(header, image, "rgb8")
    yield "/camera/camera_info", CAMERA_INFO, camera_info
    yield MASKS_TOPIC, IMAGE, image_fields(header, labels, "mono8")
    yield "/ground_truth/depth/image", IMAGE, image_fields(header, depth, "32FC1")
    yield "/ground_truth/depth/camera_info", CAMERA_INFO, camera_info
    yield "/ground_truth/normals", IMAGE, image_fields(header, normals, "32FC3")
    instances = [AmodalInstance(k, labels == k, mask) for k, mask in enumerate(amodal, 1) if mask.any()]
    truth = PerceptionOutput(flow=np.where(valid[..., None], flow, np.float32(np.nan)), amodal=instances)
    yield "/ground_truth/amodal/masks", AMODAL_MASK_ARRAY, amodal_mask_array_fields(header, truth, (height, width))
    if not last:
        yield "/ground_truth/flow", OPTICAL_FLOW, optical_flow_fields(header, next_stamp, truth)
    poses = frames.body_to_world[0, 0].cpu().numpy()
    transforms = [_transform_fields(stamp, _CAMERA_FRAME, frames.camera_to_world[0, 0].cpu().numpy())]
    transforms += [_transform_fields(stamp, f"instance_{k}", poses[k]) for k in range(1, len(scene.names) + 1)]
    yield "/tf", "tf2_msgs/msg/TFMessage", {"transforms": transforms}


def _first(tensor: Tensor) -> NDArray[Any]:
    """Of the first scene, the first frame."""
    return np.asarray(tensor[0, 0].cpu())


def _camera_info_fields(header: Fields, matrix: NDArray[Any], height: int, width: int) -> Fields:
    """sensor_msgs/CameraInfo of a camera without distortion."""
    k = matrix.reshape(-1).tolist()
    return {
        "header": header,
        "height": height,
        "width": width,
        "distortion_model": "plumb_bob",
        "d": [0.0] * 5,
        "k": k,
        "r": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        "p": [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0],
        "binning_x": 0,
        "binning_y": 0,
        "roi": {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False},
    }


def _transform_fields(stamp: Fields, frame: str, pose: NDArray[Any]) -> Fields:
    """geometry_msgs/TransformStamped from the frame to the world."""
    x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat().tolist()
    translation = dict(zip("xyz", pose[:3, 3].tolist(), strict=True))
    return {
        "header": {"stamp": stamp, "frame_id": "world"},
        "child_frame_id": frame,
        "transform": {"translation": translation, "rotation": {"x": x, "y": y, "z": z, "w": w}},
    }
