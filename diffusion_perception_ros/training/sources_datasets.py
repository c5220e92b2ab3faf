"""Datasets in their official layouts as sources: files are read, and fitted to the network, when they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_perception_ros.evaluation.datasets import FlyingChairs, Hypersim, IndexedDataset, Pix2Gestalt
from diffusion_perception_ros.evaluation.samples import Sample
from diffusion_perception_ros.model.metadata import TargetEncoding
from diffusion_perception_ros.tasks import Truth
from diffusion_perception_ros.tasks.geometry import Geometry
from diffusion_perception_ros.training.frames import Frames
from diffusion_perception_ros.training.source import Numbers, Source

# From a folder and the fields of `Truth` that are wanted.
READERS: Mapping[str, Callable[[Path, frozenset[str]], IndexedDataset]] = {
    "hypersim": lambda path, fields: Hypersim(path, normals="normals" in fields),
    "chairs": lambda path, fields: FlyingChairs(path, split="training"),
    "pix2gestalt": lambda path, fields: Pix2Gestalt(path, appearance="appearance" in fields),
}


class DatasetSource(Source):
    """The samples of a dataset by their number, read by threads.

    Args:
        dataset: With truth.
        resolution: Side of the square that the network sees.
        threads: How many files are read at a time.
        device: Where frames go.
    """

    def __init__(self, dataset: IndexedDataset, resolution: int, threads: int, device: torch.device) -> None:
        self.dataset = dataset
        self.resolution = resolution
        self.device = device
        self._executor = ThreadPoolExecutor(threads)

    def draw(self, step: int, count: int, rng: np.random.Generator) -> Numbers:
        """See ``Source``."""
        return rng.integers(0, len(self.dataset), count)

    def read(self, numbers: Numbers, encoding: TargetEncoding) -> Frames:
        """See ``Source``."""

        def read(number: int) -> Frames:
            return fit(self.dataset[number], self.resolution, encoding.image_interpolation)

        return Frames.cat(list(self._executor.map(read, numbers.tolist()))).to(self.device)

    def close(self) -> None:
        """End the threads."""
        self._executor.shutdown(cancel_futures=True)


def fit(sample: Sample, resolution: int, interpolation: str) -> Frames:
    """One frame, squashed onto the network's square.

    Pictures are resized as the pipeline resizes them. Truth is taken at the nearest pixel, because depths, motions and
    normals of two surfaces have no meaningful mean.

    Args:
        sample: Of any size.
        resolution: Side of the square.
        interpolation: Of pictures, see ``TargetEncoding``.
    """
    height, width = sample.image.shape[:2]
    geometry = Geometry(height, width, resolution)

    def picture(pixels: NDArray[np.uint8]) -> Tensor:
        channels = torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32).div_(255)
        return geometry.to_network(channels, interpolation).unsqueeze(0)

    def field(values: NDArray[np.float32], valid: NDArray[np.bool_]) -> Tensor:
        """(H, W, C) to (1, C, R, R), NaN where not valid."""
        known = torch.from_numpy(np.where(valid[..., None], values, np.float32(np.nan)))
        return geometry.to_network(known.permute(2, 0, 1), "nearest-exact").unsqueeze(0)

    def mask(pixels: NDArray[np.bool_]) -> Tensor:
        """As the prompt of a visible mask is resized."""
        return geometry.to_network(torch.from_numpy(pixels)[None].to(torch.float32), "nearest") > 0.5

    unknown = torch.full((1, resolution, resolution), torch.nan)
    nowhere = torch.zeros(unknown.shape, dtype=torch.bool)
    depth, flow, normals, instance = sample.depth, sample.flow, sample.normals, next(iter(sample.instances), None)
    motion = unknown.expand(2, -1, -1)[None] if flow is None else field(flow.flow, flow.valid)
    appearance = instance.appearance if instance is not None else None
    scale = motion.new_tensor(geometry.pixel_scale).view(2, 1, 1)
    image = picture(sample.image)
    return Frames(
        image,
        image if sample.next_image is None else picture(sample.next_image),
        Truth(
            unknown if depth is None else field(depth.depth[..., None], depth.valid)[:, 0],
            motion / scale,
            motion.isfinite().all(dim=1),
            nowhere if instance is None else mask(instance.visible),
            nowhere if instance is None else mask(instance.amodal),
            None if normals is None else field(normals.normals, normals.valid),
            None if appearance is None else picture(appearance),
        ),
    )
