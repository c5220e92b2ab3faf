"""A storage file, and what the user calls it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class StorageFile(NamedTuple):
    """One file of a bag.

    Attributes:
        path: What is read.
        original: The user's file, of which ``path`` may be a copy; the one to name in messages.
    """

    path: Path
    original: Path
