"""Frame pairs on disk: rendered once by worker processes, read by memory map.

Pair i is the scene of seed ``first_seed + i``, so that what a step trains on follows from its number alone; files that
are missing are made again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.scenes import render_pairs

# Of the scenes from here on none is trained on: first those for validation while training, then those for evaluation.
VALIDATION_SEED = 899_000_000
# Pairs that a worker renders at once, on a CPU and on a GPU, which takes as long for one as for many.
_PORTION, _PORTION_ON_GPU = 16, 128
_VISIBLE, _AMODAL, _FLOW_VALID = 1, 2, 4
_POLL_SECONDS = 0.2


def pair_type(resolution: int, normals: bool = False) -> np.dtype[Any]:
    """The record of a pair: colours as uint8, depth in metres and flow in pixels as float16, masks as bits.

    Args:
        resolution: Side of the images.
        normals: Whether there are surface normals, too, as float16.
    """
    size = resolution, resolution
    fields: list[tuple[str, type, tuple[int, ...]]] = [
        ("image", np.uint8, (*size, 3)),
        ("next_image", np.uint8, (*size, 3)),
        ("depth", np.float16, size),
        ("flow", np.float16, (*size, 2)),
        ("masks", np.uint8, size),
    ]
    return np.dtype([*fields, ("normals", np.float16, (*size, 3))] if normals else fields)


@overload
def unpack_masks(masks: Tensor) -> dict[str, Tensor]: ...
@overload
def unpack_masks(masks: NDArray[np.uint8]) -> dict[str, NDArray[np.bool_]]: ...
def unpack_masks(masks: Any) -> dict[str, Any]:
    """``visible``, ``amodal`` and ``flow_valid`` from their bits."""
    bits = {"visible": _VISIBLE, "amodal": _AMODAL, "flow_valid": _FLOW_VALID}
    return {name: masks & bit > 0 for name, bit in bits.items()}


def render_records(
    seeds: Sequence[int], resolution: int, normals: bool = False, device: torch.device | str = "cpu"
) -> NDArray[Any]:
    """(len(seeds),) records of ``pair_type``, rendered on a device."""
    pairs = render_pairs(seeds, resolution, resolution, device)
    records = np.empty(len(seeds), pair_type(resolution, normals))
    for name in ("image", "next_image", "depth", "flow", *(["normals"] if normals else [])):
        records[name] = getattr(pairs, name).cpu().numpy()
    masks = pairs.visible * _VISIBLE + pairs.amodal * _AMODAL + pairs.flow_valid * _FLOW_VALID
    records["masks"] = masks.cpu().numpy()
    return records


class PairCache:
    """Pairs in files of ``shard_size``.

    Args:
        folder: Where they are; made if need be.
        resolution: Side of the images.
        shard_size: Pairs in a file.
        first_seed: Seed of pair 0.
        workers: Most processes that render at a time; 0 leaves the rendering to another process of the same run.
        normals: Whether the pairs have surface normals; they are in files of their own, beside those without.
        device: Where the processes render.

    Raises:
        InputError: The folder holds pairs that the scenes no longer look like.
    """

    def __init__(
        self,
        folder: Path,
        resolution: int,
        shard_size: int,
        first_seed: int,
        workers: int,
        normals: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.folder = folder
        self.resolution = resolution
        self.normals = normals
        self.shard_size = shard_size
        self.first_seed = first_seed
        self.workers = workers
        self.device = device
        self._processes: list[BaseProcess] = []
        self._maps: dict[int, NDArray[Any]] = {}
        make_folder(folder)
        self._check()

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.folder / f"{self._prefix}_{self.seeds(shard)[0]}_{self.shard_size}.npy"

    @property
    def _prefix(self) -> str:
        return f"{'pairs_normals' if self.normals else 'pairs'}_{self.resolution}"

    def seeds(self, shard: int) -> range:
        """Of the scenes in a shard."""
        first = self.first_seed + shard * self.shard_size
        return range(first, first + self.shard_size)

    def read(self, indices: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """The records of some pairs, in that order; waits for those that are not rendered yet."""
        shards, rows = np.divmod(indices, self.shard_size)
        self.ensure(np.unique(shards).tolist(), progress=False)
        records = np.empty(len(indices), pair_type(self.resolution, self.normals))
        for i, (shard, row) in enumerate(zip(shards.tolist(), rows.tolist(), strict=True)):
            records[i] = self.shard(shard)[row]
        return records

    def shard(self, shard: int) -> NDArray[Any]:
        """The records of a shard that has been rendered."""
        if shard not in self._maps:
            self._maps[shard] = np.load(self.path(shard), mmap_mode="r")
        return self._maps[shard]

    def ensure(self, shards: Iterable[int], progress: bool = True) -> None:
        """Render what is missing and wait for it."""
        waiting = [shard for shard in shards if not self.path(shard).is_file()]
        if not waiting:
            return
        self.start(waiting)
        total = len(waiting)
        hidden = None if progress else True
        with tqdm(desc="rendering", total=total * self.shard_size, unit="pair", disable=hidden) as bar:
            while waiting:
                # Asked before the files are looked for, so that the last file of an ended process is seen.
                alive = [process.is_alive() for process in self._processes]
                waiting = [shard for shard in waiting if not self.path(shard).is_file()]
                bar.update((total - len(waiting)) * self.shard_size - bar.n)
                if waiting and self.workers and not any(alive):
                    raise RuntimeError(f"the processes that render {self.path(waiting[0])} have ended without it")
                time.sleep(_POLL_SECONDS if waiting else 0)

    def start(self, shards: Sequence[int]) -> None:
        """Render shards in the background, those that are missing and not begun."""
        self._processes = [process for process in self._processes if process.is_alive()]
        busy = {process.name for process in self._processes}
        missing = [s for s in shards if not self.path(s).is_file() and not any(str(s) in n.split() for n in busy)]
        context = multiprocessing.get_context("spawn")  # forked copies of a process with torch's threads can hang
        for i in range(min(self.workers, len(missing))):
            share = missing[i :: self.workers]
            process = context.Process(
                target=_render_shards,
                args=([(self.path(s), self.seeds(s)) for s in share], self.resolution, self.normals, self.device),
                name=" ".join(map(str, share)),
                daemon=True,
            )
            with _interrupts_ignored():
                process.start()
            self._processes.append(process)

    def forget(self, shard: int) -> None:
        """Delete the file of a shard, if there is one."""
        self._maps.pop(shard, None)
        self.path(shard).unlink(missing_ok=True)

    def close(self) -> None:
        """End the rendering processes."""
        for process in self._processes:
            process.terminate()
            process.join()

    def _check(self) -> None:
        path = next(self.folder.glob(f"{self._prefix}_*_*.npy"), None)
        if path is None:
            return
        stored = np.load(path, mmap_mode="r")
        seed = int(path.stem.split("_")[-2])
        seeds = range(seed, seed + min(4, len(stored)))
        fresh = render_records(seeds, self.resolution, self.normals)
        images = np.stack([stored["image"][: len(seeds)], fresh["image"]]).astype(np.int16)
        # Rounding may differ between machines, here and there.
        if stored.dtype != fresh.dtype or np.mean(np.abs(images[0] - images[1]) > 2) > 0.01:
            raise InputError(
                f"{self.folder}: its pairs were rendered by another version of the scenes; delete it or choose another."
            )


def make_folder(folder: Path) -> None:
    """Make a folder if need be.

    Raises:
        InputError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be made: {error.strerror}; choose another.") from None


def write_shard(
    path: Path,
    seeds: Sequence[int],
    resolution: int,
    normals: bool = False,
    wanted: Callable[[], bool] = lambda: True,
    device: torch.device | str = "cpu",
) -> None:
    """Render the pairs of some seeds into a file, which appears when it is complete.

    Args:
        path: The file.
        seeds: Of the pairs.
        resolution: Side of the images.
        normals: Whether the pairs have surface normals.
        wanted: Asked now and then; the file is not written once the answer is no.
        device: Where to render.
    """
    portion = _PORTION if torch.device(device).type == "cpu" else _PORTION_ON_GPU
    partial = path.with_suffix(f".partial-{os.getpid()}")
    try:
        portions = []
        for start in range(0, len(seeds), portion):
            if not wanted():
                return
            portions.append(render_records(seeds[start : start + portion], resolution, normals, device))
        with partial.open("wb") as file:
            np.save(file, np.concatenate(portions))
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ctrl-C goes to all processes of a terminal; those that are started meanwhile leave it to their parent."""
    if threading.current_thread() is not threading.main_thread():  # which alone may change that; children inherit it
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _render_shards(
    jobs: Sequence[tuple[Path, Sequence[int]]], resolution: int, normals: bool, device: torch.device | str
) -> None:
    """Runs in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None
    for path, seeds in jobs:
        # A parent that was killed waits for nothing.
        write_shard(path, seeds, resolution, normals, parent.is_alive, device)
