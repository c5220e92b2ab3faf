"""The synthetic data of pix2gestalt (Ozguroglu et al. 2024): objects pasted over whole ones."""

from __future__ import annotations

from pathlib import Path

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.evaluation.datasets.dataset import (
    IndexedDataset,
    evenly,
    existing_file,
    existing_folder,
    read_grey,
)
from diffusion_perception_ros.evaluation.samples import InstanceTruth, Sample
from diffusion_perception_ros.media.pictures import read_picture


class Pix2Gestalt(IndexedDataset):
    """One object in each image, its visible part and all of it.

    The folders are ``occlusion/N_occlusion.png`` (the image), ``visible_object_mask/N_visible_mask.png`` and
    ``whole_mask/N_whole_mask.png``; ``whole/N_whole.png`` is all of the object on white.

    Args:
        path: The folder.
        samples: How many, spread evenly; None for all.
        appearance: Whether to read the picture of the object, too.

    Raises:
        InputError: A folder is missing, or one of the chosen images has no masks or no picture.
    """

    def __init__(self, path: Path, samples: int | None = None, appearance: bool = False) -> None:
        self.settings = {"dataset": "pix2gestalt", "path": str(path)}
        folder = existing_folder(path, "occlusion")
        images = sorted(folder.glob("*_occlusion.png"))
        if not images:
            raise InputError(f"{folder} has no images (*_occlusion.png).")
        folders = {"visible_object_mask": "visible_mask", "whole_mask": "whole_mask"}
        if appearance:
            folders["whole"] = "whole"
        for name in folders:
            existing_folder(path, name)
        numbers = [image.name.removesuffix("_occlusion.png") for image in evenly(images, samples)]
        self._files = [
            (
                folder / f"{number}_occlusion.png",
                *(existing_file(path / name / f"{number}_{ending}.png") for name, ending in folders.items()),
            )
            for number in numbers
        ]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> Sample:
        image, visible_file, whole_file, *picture = self._files[number]
        visible, whole = read_grey(visible_file) > 127, read_grey(whole_file) > 127
        if not visible.any():
            raise InputError(f"{visible_file} is empty; nothing of the object is visible.")
        appearance = read_picture(picture[0]) if picture else None
        return Sample(str(image), read_picture(image), instances=[InstanceTruth(visible, whole, appearance)])
