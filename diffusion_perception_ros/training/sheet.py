"""The sample sheet: what the checkpoint of the moment makes of scenes it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from diffusion_perception_ros.conversions import amodal_overlay, depth_color, flow_color
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.predictions import AmodalInstance
from diffusion_perception_ros.tasks import Truth, find_task
from diffusion_perception_ros.training.cache import unpack_masks
from diffusion_perception_ros.training.validation import predict

Picture = NDArray[np.uint8]

_TILE = 192
_FLOW_RANGE = 0.08  # of the image's width is drawn in full colour


def sample_sheet(pipe: PerceptionPipeline, records: NDArray[Any]) -> Picture:
    """(H, W, 3) uint8 BGR: a row per scene; image, then truth and prediction of each task."""
    return np.concatenate([np.concatenate(_row(pipe, record), axis=1) for record in records])


def write_sheet(pipe: PerceptionPipeline, records: NDArray[Any], path: Path) -> None:
    """Write the sheet as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", sample_sheet(pipe, records))[1].tobytes())


def _row(pipe: PerceptionPipeline, record: Any) -> list[Picture]:
    output = predict(pipe, record, pipe.metadata.num_inference_steps)
    masks = unpack_masks(record["masks"])
    image = np.ascontiguousarray(record["image"])
    tiles = [image[..., ::-1]]
    if output.depth_relative is not None:
        tiles += [depth_color(_encoded_depth(pipe, record)), depth_color(output.depth_relative)]
    if output.flow is not None:
        flow = record["flow"].astype(np.float32)
        tiles += [flow_color(f, _FLOW_RANGE * flow.shape[1]) for f in (flow, output.flow)]
    if output.amodal is not None:
        truth = AmodalInstance(1, masks["visible"], masks["amodal"], None, float("nan"))
        tiles += [amodal_overlay(image, instances) for instances in ([truth], output.amodal)]
    return [cv2.resize(tile, (_TILE, _TILE), interpolation=cv2.INTER_NEAREST).astype(np.uint8) for tile in tiles]


def _encoded_depth(pipe: PerceptionPipeline, record: Any) -> NDArray[np.float32]:
    """The true depth in the checkpoint's own scale."""
    depth = torch.from_numpy(record["depth"].astype(np.float32))[None]
    nothing = torch.zeros(depth.shape, dtype=torch.bool)
    truth = Truth(depth, torch.zeros(1, 2, *depth.shape[1:]), nothing, nothing, nothing)
    metadata = pipe.metadata
    target = find_task("depth").encode_target(truth, metadata.tasks["depth"], metadata.flow_reference_size)
    encoded: NDArray[np.float32] = ((target.images[0, 0, 0] + 1) / 2).numpy()
    return encoded
