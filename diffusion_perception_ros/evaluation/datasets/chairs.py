"""FlyingChairs (Dosovitskiy et al. 2015): pairs of images and the flow between them."""

from __future__ import annotations

from pathlib import Path

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.evaluation.datasets.dataset import (
    IndexedDataset,
    evenly,
    existing_file,
    existing_folder,
)
from diffusion_perception_ros.evaluation.samples import FlowTruth, Sample
from diffusion_perception_ros.media.flo import read_flow
from diffusion_perception_ros.media.pictures import read_picture

SPLIT = "FlyingChairs_train_val.txt"
_PARTS = {"training": "1", "validation": "2"}


class FlyingChairs(IndexedDataset):
    """The pairs of one part of the official split.

    ``data/`` has ``NNNNN_img1.ppm``, ``NNNNN_img2.ppm`` and ``NNNNN_flow.flo``. ``FlyingChairs_train_val.txt`` has one
    line for each pair in the order of their numbers, 1 for training and 2 for validation.

    Args:
        path: The folder.
        samples: How many, spread evenly over the pairs; None for all.
        split: ``training`` or ``validation``.

    Raises:
        InputError: A folder or file is missing, or the split does not fit the pairs.
    """

    def __init__(self, path: Path, samples: int | None = None, split: str = "validation") -> None:
        self.settings = {"dataset": "chairs", "path": str(path), "split": split}
        flows = sorted(existing_folder(path, "data").glob("*_flow.flo"))
        listing = existing_file(path / SPLIT)
        parts = listing.read_text(encoding="utf-8").split()
        if len(parts) != len(flows) or not set(parts) <= set(_PARTS.values()):
            raise InputError(
                f"{listing} does not fit {path / 'data'}: it has {len(parts)} lines for {len(flows)} flow files; "
                "there is one line for each pair, 1 (training) or 2 (validation)."
            )
        chosen = [flow for flow, part in zip(flows, parts, strict=True) if part == _PARTS[split]]
        if not chosen:
            raise InputError(f"{listing} has no pair for {split} ({_PARTS[split]}).")
        self._flows = evenly(chosen, samples)
        for flow in self._flows:
            for side in (1, 2):
                existing_file(_image(flow, side))

    def __len__(self) -> int:
        return len(self._flows)

    def __getitem__(self, number: int) -> Sample:
        path = self._flows[number]
        return Sample(
            str(path),
            read_picture(_image(path, 1)),
            read_picture(_image(path, 2)),
            flow=FlowTruth.where_finite(read_flow(path)),
        )


def _image(flow: Path, side: int) -> Path:
    return flow.with_name(flow.name.replace("_flow.flo", f"_img{side}.ppm"))
