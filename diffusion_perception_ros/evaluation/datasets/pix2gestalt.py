"""The synthetic data of pix2gestalt (Ozguroglu et al. 2024): objects pasted over whole ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.evaluation.datasets.dataset import (
    Dataset,
    evenly,
    existing_file,
    existing_folder,
    read_grey,
)
from diffusion_perception_ros.evaluation.samples import InstanceTruth, Sample
from diffusion_perception_ros.media.pictures import read_picture


class Pix2Gestalt(Dataset):
    """One object in each image, its visible part and all of it.

    The folders are ``occlusion/N_occlusion.png`` (the image), ``visible_object_mask/N_visible_mask.png`` and
    ``whole_mask/N_whole_mask.png``; ``whole/``, the object's RGB, is not needed here.

    Args:
        path: The folder.
        samples: How many, spread evenly; None for all.

    Raises:
        InputError: A folder is missing, or one of the chosen images has no masks.
    """

    def __init__(self, path: Path, samples: int | None = None) -> None:
        self.settings = {"dataset": "pix2gestalt", "path": str(path)}
        folder = existing_folder(path, "occlusion")
        images = sorted(folder.glob("*_occlusion.png"))
        if not images:
            raise InputError(f"{folder} has no images (*_occlusion.png).")
        visible, whole = existing_folder(path, "visible_object_mask"), existing_folder(path, "whole_mask")
        self._files = []
        for image in evenly(images, samples):
            number = image.name.removesuffix("_occlusion.png")
            masks = (visible / f"{number}_visible_mask.png", whole / f"{number}_whole_mask.png")
            self._files.append((image, *map(existing_file, masks)))

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[Sample]:
        for image, visible_file, whole_file in self._files:
            visible, whole = read_grey(visible_file) > 127, read_grey(whole_file) > 127
            if not visible.any():
                raise InputError(f"{visible_file} is empty; nothing of the object is visible.")
            yield Sample(str(image), read_picture(image), instances=[InstanceTruth(visible, whole)])
