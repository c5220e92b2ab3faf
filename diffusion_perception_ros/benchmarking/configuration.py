"""What is measured: checkpoints, resolutions, tasks, steps, dtypes and codecs, each with each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from diffusion_perception_ros.errors import InputError

RANDOM = "random "
_SIZE = re.compile(r"([1-9]\d*)x([1-9]\d*)")

Model = tuple[str, str, bool, str]


@dataclass(frozen=True)
class Configuration:
    """One row of a benchmark.

    Attributes:
        checkpoint: ``embedded``, a checkpoint folder, or ``random 12x384``: blocks by width of a generalist with random
            weights.
        resolution: Side of the square that the network sees, in pixels; None for the checkpoint's own.
        tasks: What is asked of every frame.
        steps: Denoising steps.
        dtype: Of weights and activations.
        codec: ``own``, the checkpoint's; ``kl`` or ``tiny``, of Stable Diffusion's sizes with random weights; or a
            folder with a ``vae/``.
        compiled: With torch.compile.
        decoder: ``own``, the checkpoint's default; ``full``, the codec's; or another that the checkpoint has.
    """

    checkpoint: str
    resolution: int | None
    tasks: tuple[str, ...]
    steps: int
    dtype: str
    codec: str
    compiled: bool
    decoder: str = "own"

    @property
    def model(self) -> Model:
        """What of it makes the pipeline, of one checkpoint and resolution."""
        return self.dtype, self.codec, self.compiled, self.decoder

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "tasks": list(self.tasks)}


def combine(
    checkpoints: Sequence[str],
    resolutions: Sequence[int | None],
    tasks: Sequence[tuple[str, ...]],
    steps: Sequence[int],
    dtypes: Sequence[str],
    codecs: Sequence[str],
    compiled: Sequence[bool],
    decoders: Sequence[str] = ("own",),
) -> list[Configuration]:
    """All combinations. Those that differ in tasks or steps stand apart."""
    return [
        Configuration(*values)
        for values in product(checkpoints, resolutions, tasks, steps, dtypes, codecs, compiled, decoders)
    ]


def random_sizes(checkpoint: str) -> dict[str, int] | None:
    """Sizes of the transformer of ``random 12x384``; None for other checkpoints.

    Heads are those of the DiT of that width (Peebles & Xie 2023), the rest is the released generalist's.

    Raises:
        InputError: The size cannot be read, or there is no such transformer.
    """
    if not checkpoint.startswith(RANDOM):
        return None
    match = _SIZE.fullmatch(checkpoint.removeprefix(RANDOM))
    if match is None:
        raise InputError(f"--random {checkpoint.removeprefix(RANDOM)} is no size such as 12x384, blocks by width.")
    layers, width = int(match[1]), int(match[2])
    heads = 16 if width == 1152 else max(width // 64, 1)
    if width % 4 or width % heads:
        raise InputError(f"--random {match[0]}: the width {width} does not divide by 4 and by {heads} heads.")
    return {"num_layers": layers, "hidden_size": width, "num_attention_heads": heads, "mlp_size": 4 * width}
