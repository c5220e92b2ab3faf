"""The state of a run on disk: a killed one goes on as if nothing had happened."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from diffusion_perception_ros.errors import InputError


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state; whoever is killed meanwhile leaves the one before."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote, on the host.

    Raises:
        InputError: There is none, or it cannot be read.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file to resume from; start without --resume.")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, pickle and zipfile raise many kinds here
        raise InputError(f"{path}: not readable as the state of a training run ({type(error).__name__}).") from None
    return state


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Have a folder written, which appears under its name only when it is complete."""
    partial, previous = (folder.with_name(f".{folder.name}.{word}") for word in ("partial", "previous"))
    for leftover in (partial, previous):
        shutil.rmtree(leftover, ignore_errors=True)
    write(partial)
    if folder.exists():
        folder.rename(previous)
    partial.rename(folder)
    shutil.rmtree(previous, ignore_errors=True)
