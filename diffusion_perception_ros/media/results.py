"""The result files of one frame."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.conversions import amodal_overlay, depth_color, flow_color, normal_color
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.media.flo import write_flow
from diffusion_perception_ros.media.pictures import write_picture
from diffusion_perception_ros.predictions import PerceptionOutput

# No ending is another one behind an underscore, so that frames with different names never share a file.
_RESULT = re.compile(
    r"(.*)_(depth\.npy|depth\.png|depth_uncertainty\.npy|flow\.flo|flow\.png|flow_standard_deviation\.npy"
    r"|normals\.npy|normals\.png|amodal_[0-9]+\.png|appearance_[0-9]+\.png|overlay\.png)",
    re.DOTALL,
)


def find_results(folder: Path, name: str | None = None) -> list[Path]:
    """The result files in a folder: those about the frame of that name, or all."""
    if not folder.is_dir():
        return []
    matches = ((path, _RESULT.fullmatch(path.name)) for path in sorted(folder.iterdir()))
    return [path for path, match in matches if match and name in (None, match[1])]


def write_results(
    folder: Path, name: str, image: NDArray[np.uint8], output: PerceptionOutput, color_range: float
) -> int:
    """Write everything that a prediction says about a frame.

    Args:
        folder: Where to; made if need be.
        name: What the names of the files begin with.
        image: (H, W, 3) uint8 RGB, the frame.
        output: The prediction.
        color_range: The displacement in pixels that the flow's picture draws in full colour.

    Returns:
        Number of files.

    Raises:
        InputError: A file cannot be written.
    """
    pictures: dict[str, NDArray[np.uint8]] = {}
    arrays: dict[str, NDArray[np.float32]] = {}
    if output.depth_relative is not None:
        arrays["depth"] = output.depth_relative
        pictures["depth"] = depth_color(output.depth_relative, output.depth_median)
    if output.depth_uncertainty is not None:
        arrays["depth_uncertainty"] = output.depth_uncertainty
    if output.flow is not None:
        pictures["flow"] = flow_color(output.flow, color_range)
    if output.flow_standard_deviation is not None:
        arrays["flow_standard_deviation"] = output.flow_standard_deviation
    if "normals" in output.extra:
        arrays["normals"] = output.extra["normals"]
        pictures["normals"] = normal_color(output.extra["normals"])
    if output.amodal is not None:
        for instance in output.amodal:
            pictures[f"amodal_{instance.id}"] = instance.mask.astype(np.uint8) * np.uint8(255)
            if instance.appearance is not None:
                pictures[f"appearance_{instance.id}"] = np.ascontiguousarray(instance.appearance[..., ::-1])
        pictures["overlay"] = amodal_overlay(image, output.amodal)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind, array in arrays.items():
            np.save(folder / f"{name}_{kind}.npy", array.astype(np.float32, copy=False))
    except OSError as error:
        raise InputError(f"the output {folder} cannot be written: {error.strerror}.") from None
    for kind, picture in pictures.items():
        write_picture(folder / f"{name}_{kind}.png", picture)
    if output.flow is not None:
        write_flow(folder / f"{name}_flow.flo", output.flow)
    return len(pictures) + len(arrays) + (output.flow is not None)
