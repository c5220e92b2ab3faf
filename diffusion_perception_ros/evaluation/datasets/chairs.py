"""FlyingChairs (Dosovitskiy et al. 2015): pairs of images and the flow between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.evaluation.datasets.dataset import Dataset, evenly, existing_file, existing_folder
from diffusion_perception_ros.evaluation.samples import FlowTruth, Sample
from diffusion_perception_ros.media.flo import read_flow
from diffusion_perception_ros.media.pictures import read_picture

SPLIT = "FlyingChairs_train_val.txt"
_VALIDATION = "2"


class FlyingChairs(Dataset):
    """The validation pairs.

    ``data/`` has ``NNNNN_img1.ppm``, ``NNNNN_img2.ppm`` and ``NNNNN_flow.flo``. ``FlyingChairs_train_val.txt`` has one
    line for each pair in the order of their numbers, 1 for training and 2 for validation.

    Args:
        path: The folder.
        samples: How many, spread evenly over the validation pairs; None for all.

    Raises:
        InputError: A folder or file is missing, or the split does not fit the pairs.
    """

    def __init__(self, path: Path, samples: int | None = None) -> None:
        self.settings = {"dataset": "chairs", "path": str(path), "split": "validation"}
        flows = sorted(existing_folder(path, "data").glob("*_flow.flo"))
        listing = existing_file(path / SPLIT)
        split = listing.read_text(encoding="utf-8").split()
        if len(split) != len(flows) or not set(split) <= {"1", _VALIDATION}:
            raise InputError(
                f"{listing} does not fit {path / 'data'}: it has {len(split)} lines for {len(flows)} flow files; "
                "there is one line for each pair, 1 (training) or 2 (validation)."
            )
        validation = [flow for flow, part in zip(flows, split, strict=True) if part == _VALIDATION]
        if not validation:
            raise InputError(f"{listing} has no pair for validation (2).")
        self._flows = evenly(validation, samples)
        for flow in self._flows:
            for side in (1, 2):
                existing_file(_image(flow, side))

    def __len__(self) -> int:
        return len(self._flows)

    def __iter__(self) -> Iterator[Sample]:
        for path in self._flows:
            yield Sample(
                str(path),
                read_picture(_image(path, 1)),
                read_picture(_image(path, 2)),
                flow=FlowTruth.where_finite(read_flow(path)),
            )


def _image(flow: Path, side: int) -> Path:
    return flow.with_name(flow.name.replace("_flow.flo", f"_img{side}.ppm"))
