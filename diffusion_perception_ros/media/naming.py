"""Names of files and frames: in the order people expect, and each only once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from diffusion_perception_ros.errors import InputError


def files_in(folder: Path) -> list[Path]:
    """Its files but the hidden ones, in no particular order.

    Raises:
        InputError: The folder cannot be read.
    """
    try:
        return [entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be read: {error.strerror}.") from None


def natural_key(name: str) -> tuple[list[int | str], str]:
    """Sorts ``frame2`` before ``frame10``; the name itself decides between ``1`` and ``01``."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def unique_names(names: Sequence[str]) -> list[str]:
    """The same names, with ``_2``, ``_3``, ... behind those that came before, whatever their case."""
    taken = {name.casefold() for name in names}
    seen = set()
    unique = []
    for name in names:
        candidate, number = name, 1
        while candidate.casefold() in seen or (number > 1 and candidate.casefold() in taken):
            number += 1
            candidate = f"{name}_{number}"
        seen.add(candidate.casefold())
        unique.append(candidate)
    return unique
