"""The procedural scenes, rendered when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_perception_ros.evaluation.datasets.dataset import Dataset
from diffusion_perception_ros.evaluation.samples import DepthTruth, FlowTruth, InstanceTruth, NormalTruth, Sample
from diffusion_perception_ros.scenes import EVALUATION_SEED, draw_scene, render, render_pairs

# KITTI's customary limit (Garg et al. 2016): least squares would otherwise fit the horizon alone.
NEAREST, FARTHEST = 1e-3, 80.0
SEQUENCE_FRAMES = 8
_CHUNK = 16


class Scenes(Dataset):
    """One pair of frames and one object for each seed, as `render_pairs` chooses it.

    Args:
        samples: How many seeds.
        seed: The first; the others follow.
        height: Of the images in pixels.
        width: Of the images in pixels.
        sequences: How many of the seeds also give a sequence of `SEQUENCE_FRAMES` frames.
        device: Where to render.
    """

    def __init__(
        self,
        samples: int,
        seed: int = EVALUATION_SEED,
        height: int = 128,
        width: int = 128,
        sequences: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.settings = {
            "dataset": "scenes",
            "seed": seed,
            "width": width,
            "height": height,
            "depth_range_m": [NEAREST, FARTHEST],
        }
        self._seeds = range(seed, seed + samples)
        self._size = (height, width)
        self._sequences = min(sequences, samples)
        self._device = device

    def __len__(self) -> int:
        return len(self._seeds)

    def __iter__(self) -> Iterator[Sample]:
        for start in range(0, len(self), _CHUNK):
            seeds = self._seeds[start : start + _CHUNK]
            pairs = render_pairs(seeds, *self._size, self._device)
            for i, seed in enumerate(seeds):
                visible = _numpy(pairs.visible[i])
                yield Sample(
                    f"scene {seed}",
                    _numpy(pairs.image[i]),
                    _numpy(pairs.next_image[i]),
                    DepthTruth.within(_numpy(pairs.depth[i]), NEAREST, FARTHEST),
                    FlowTruth(_numpy(pairs.flow[i]), _numpy(pairs.flow_valid[i])),
                    [InstanceTruth(visible, _numpy(pairs.amodal[i]))] if visible.any() else [],
                    NormalTruth.where_known(_numpy(pairs.normals[i])),
                )

    def sequences(self) -> Iterator[Sequence[Sample]]:
        """The first frames of the first scenes."""
        for seed in self._seeds[: self._sequences]:
            frames = render([draw_scene(seed)], range(SEQUENCE_FRAMES), *self._size, self._device)
            yield [
                Sample(
                    f"scene {seed}, frame {time}",
                    _numpy(frames.image[0, time]),
                    _numpy(frames.image[0, time + 1]) if time + 1 < SEQUENCE_FRAMES else None,
                    DepthTruth.within(_numpy(frames.depth[0, time]), NEAREST, FARTHEST),
                    FlowTruth(_numpy(frames.flow[0, time]), _numpy(frames.flow_valid[0, time]))
                    if time + 1 < SEQUENCE_FRAMES
                    else None,
                )
                for time in range(SEQUENCE_FRAMES)
            ]


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return np.asarray(tensor.cpu())
