"""Small datasets in their official layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.media.flo import write_flow

HEIGHT, WIDTH = 12, 16


def picture(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write(path: Path, pixels: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def hypersim(folder: Path, count: int = 3, normals: bool = False) -> Path:
    """Depth of 2 m and some millimetres, with an unknown pixel and one that is too far; floors, if with normals."""
    for i in range(count):
        depth = np.full((HEIGHT, WIDTH), 2000 + i, np.uint16)
        depth[0, 0], depth[0, 1] = 0, 65_000
        write(folder / "val" / f"ai_{i}" / "rgb_cam_00.png", picture(i)[..., ::-1])
        write(folder / "val" / f"ai_{i}" / "depth.png", depth)
        if normals:
            vectors = np.tile([0.0, 1.0, 0.0], (HEIGHT, WIDTH, 1))  # up, in the dataset's camera frame
            vectors[0, 0] = 0
            np.save(folder / "val" / f"ai_{i}" / "normal_cam_cam_00.npy", vectors)
    lines = [f"ai_{i}/rgb_cam_00.png ai_{i}/depth.png" for i in range(count)]
    (folder / "filenames.txt").write_text("\n".join(lines))
    return folder


def chairs(folder: Path, split: str = "2 1 2") -> Path:
    """Motion of i pixels in pair i, with an unknown pixel."""
    for i in range(3):
        for side in (1, 2):
            write(folder / "data" / f"0000{i}_img{side}.ppm", picture(10 * i + side)[..., ::-1])
        flow = np.full((HEIGHT, WIDTH, 2), i, np.float32)
        flow[0, 0] = np.nan
        write_flow(folder / "data" / f"0000{i}_flow.flo", flow)
    (folder / "FlyingChairs_train_val.txt").write_text(split.replace(" ", "\n") + "\n")
    return folder


def pix2gestalt(folder: Path) -> Path:
    """A green square, of which the right third is hidden."""
    whole = np.zeros((HEIGHT, WIDTH), np.uint8)
    whole[2:8, 2:8] = 255
    appearance = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    appearance[2:8, 2:8] = 0, 200, 0
    for number in ("5", "12"):
        visible = whole.copy()
        visible[:, 6:] = 0
        write(folder / "occlusion" / f"{number}_occlusion.png", picture()[..., ::-1])
        write(folder / "visible_object_mask" / f"{number}_visible_mask.png", visible)
        write(folder / "whole_mask" / f"{number}_whole_mask.png", whole)
        write(folder / "whole" / f"{number}_whole.png", appearance)
    return folder
