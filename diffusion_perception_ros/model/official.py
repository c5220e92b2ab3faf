"""The released checkpoint format: a pickled state dict, all sizes but two readable off its shapes."""

from __future__ import annotations

import argparse
import math
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor
from tqdm.auto import tqdm

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.transformer import DiTMoETransformer

# The labels behind the four patch convolutions of a generalist, `conv_in_1` to `conv_in_4`.
PATCH_LABELS = (1000, 1001, 1002, 1003)
_BYTES_PER_MAP = 100_000_000


class OfficialCheckpoint:
    """A released ``.pt`` file: generalist or single-task, with experts or dense.

    Opening reads names and shapes only; the weights stay on disk until ``load`` asks for them.

    Args:
        path: The file; a state dict, or a training file that has it under ``ema``.
        num_attention_heads: Not in the file; the released models have 16.
        num_experts_per_tok: Not in the file; the released models use 2.

    Attributes:
        config: Arguments of ``DiTMoETransformer``.
        shapes: Shape of each of the transformer's parameters, by our name.

    Raises:
        InputError: The file cannot be read, or a key, shape or type is not what the format says.
    """

    def __init__(self, path: Path, *, num_attention_heads: int = 16, num_experts_per_tok: int = 2) -> None:
        self.path = path
        state_dict = read_state_dict(path)
        self.config = _read_config(state_dict, path, num_attention_heads, num_experts_per_tok)
        with init_empty_weights(include_buffers=True):
            self.shapes = {name: tuple(w.shape) for name, w in DiTMoETransformer(**self.config).state_dict().items()}
        self._check(state_dict)

    @torch.no_grad()
    def load(self, names: Iterable[str], dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        """Some of the transformer's weights, stacked as it wants them."""
        weights: dict[str, Tensor] = {}
        state_dict, bytes_read = read_state_dict(self.path), 0
        for name in names:
            # Pages of a memory map that were read count as used memory until the map goes.
            if bytes_read > _BYTES_PER_MAP:
                state_dict, bytes_read = read_state_dict(self.path), 0
            keys, stacked = _released_names(name, self.config)
            weight = torch.empty(self.shapes[name], dtype=dtype, device=device)
            for slot, key in zip(weight if stacked else [weight], keys, strict=True):
                slot.copy_(state_dict[key])
                bytes_read += state_dict[key].nbytes
            weights[name] = weight
        return weights

    def load_transformer(self, dtype: torch.dtype, device: torch.device) -> DiTMoETransformer:
        """The whole network, ready to run."""
        with init_empty_weights():
            transformer: DiTMoETransformer = DiTMoETransformer(**self.config)
        names = tqdm(self.shapes, desc="loading", unit="weight", disable=None, leave=False)
        weights = self.load(names, dtype, device)
        transformer.load_state_dict(weights, assign=True)
        transformer.to(device)
        transformer.eval().requires_grad_(False)
        return transformer

    def _check(self, state_dict: dict[str, Tensor]) -> None:
        expected = {}
        for name, shape in self.shapes.items():
            keys, stacked = _released_names(name, self.config)
            expected.update(dict.fromkeys(keys, shape[1:] if stacked else shape))
        for problem, culprits in (
            ("is missing", expected.keys() - state_dict.keys()),
            ("does not belong there", state_dict.keys() - expected.keys()),
        ):
            if culprits:
                others = f" (and {len(culprits) - 1} more)" if len(culprits) > 1 else ""
                raise InputError(f"checkpoint {self.path}: the key {min(culprits)!r} {problem}{others}.")
        for key, shape in expected.items():
            tensor = state_dict[key]
            if tuple(tensor.shape) != shape:
                raise InputError(f"checkpoint {self.path}: {key!r} has shape {tuple(tensor.shape)}, expected {shape}.")
            if not tensor.is_floating_point():
                raise InputError(f"checkpoint {self.path}: {key!r} has type {tensor.dtype}, expected floating point.")


def to_official_state_dict(transformer: DiTMoETransformer) -> dict[str, Tensor]:
    """The transformer's weights under the released names, as views where possible."""
    state: dict[str, Tensor] = {}
    for name, value in transformer.state_dict().items():
        keys, stacked = _released_names(name, transformer.config)
        state.update(zip(keys, value.unbind(0) if stacked else (value,), strict=True))
    return state


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The state dict of a ``.pt`` file, mapped from disk, read without running any code that it may hold.

    Raises:
        InputError: No such file, not a PyTorch file, cut short, or holding something else than tensors.
    """
    if not path.is_file():
        raise InputError(f"checkpoint {path}: there is no such file.")
    try:
        # Files from before PyTorch 1.6 are no zip archives and cannot be mapped.
        content = _load_pickle(path, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused:
            raise InputError(
                f"checkpoint {path}: it holds {refused[1]}, which is code and not weights; "
                "only plain state dicts are loaded."
            ) from None
        raise InputError(f"checkpoint {path}: not a PyTorch checkpoint, or damaged.") from None
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError):
        raise InputError(f"checkpoint {path}: not a PyTorch checkpoint, or cut short.") from None
    if isinstance(content, dict) and "ema" in content:
        content = content["ema"]
    if not isinstance(content, dict) or not content or not all(map(_is_weight, content.items())):
        raise InputError(f"checkpoint {path}: it holds no state dict (a dict of tensors, or one under 'ema').")
    state_dict: dict[str, Tensor] = content
    return state_dict


def _is_weight(item: tuple[Any, Any]) -> bool:
    key, value = item
    return isinstance(key, str) and isinstance(value, Tensor) and value.layout == torch.strided


def _load_pickle(path: Path, mmap: bool) -> Any:
    # Training files hold their command line beside the weights.
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def _read_config(
    state_dict: Mapping[str, Tensor], path: Path, num_attention_heads: int, num_experts_per_tok: int
) -> dict[str, Any]:
    """Sizes of the transformer, from shapes."""

    def shape(key: str, dimensions: int) -> tuple[int, ...]:
        if key not in state_dict:
            raise InputError(f"checkpoint {path}: the key {key!r} is missing; it has such as {min(state_dict)!r}.")
        found = tuple(state_dict[key].shape)
        if len(found) != dimensions or 0 in found:
            raise InputError(
                f"checkpoint {path}: {key!r} has shape {found}, expected {dimensions} dimensions, none of them zero."
            )
        return found

    def count(pattern: str) -> int:
        return len({match[1] for key in state_dict if (match := re.match(pattern, key))})

    routed = "x_embedder.proj.weight" not in state_dict
    patch_key = "x_embedder.proj.conv_in_1.weight" if routed else "x_embedder.proj.weight"
    hidden_size, in_channels, patch_size, _ = shape(patch_key, 4)
    tokens = shape("pos_embed", 3)[1]
    num_experts = shape("blocks.0.moe.gate.weight", 2)[0] if count(r"(blocks\.\d+\.moe)\.") else 0
    mlp_key = "blocks.0.moe.experts.0.fc1.weight" if num_experts else "blocks.0.mlp.fc1.weight"
    num_labels = shape("y_embedder.embedding_table.weight", 2)[0]
    if math.isqrt(tokens) ** 2 != tokens:
        raise InputError(f"checkpoint {path}: 'pos_embed' has {tokens} tokens, expected a square grid.")
    if hidden_size % 4:
        raise InputError(f"checkpoint {path}: the width {hidden_size} is not a multiple of 4.")
    if num_attention_heads < 1 or hidden_size % num_attention_heads:
        raise InputError(
            f"num_attention_heads={num_attention_heads} does not divide the width {hidden_size} of {path}."
        )
    if num_experts and not 1 <= num_experts_per_tok <= num_experts:
        raise InputError(f"num_experts_per_tok={num_experts_per_tok} does not fit the {num_experts} experts of {path}.")
    if routed and num_labels <= max(PATCH_LABELS):
        raise InputError(
            f"checkpoint {path}: {num_labels} label rows, "
            f"but its four patch convolutions need labels up to {max(PATCH_LABELS)}."
        )
    return {
        "sample_size": math.isqrt(tokens) * patch_size,
        "patch_size": patch_size,
        "in_channels": in_channels,
        "out_channels": shape("final_layer.linear.weight", 2)[0] // patch_size**2,
        "hidden_size": hidden_size,
        "num_layers": count(r"blocks\.(\d+)\."),
        "num_attention_heads": num_attention_heads,
        "mlp_size": shape(mlp_key, 2)[0],
        "num_experts": num_experts,
        "num_experts_per_tok": num_experts_per_tok,
        "num_labels": num_labels,
        "patch_labels": PATCH_LABELS if routed else None,
        "frequency_size": shape("t_embedder.mlp.0.weight", 2)[1],
    }


def _released_names(name: str, config: Mapping[str, Any]) -> tuple[list[str], bool]:
    """The released names behind one of our parameters, and whether it stacks them along a new first axis."""
    if name.startswith("x_embedder."):
        kind = name.removeprefix("x_embedder.")
        if config["patch_labels"] is None:
            return [f"x_embedder.proj.{kind}"], True
        return [f"x_embedder.proj.conv_in_{i + 1}.{kind}" for i in range(len(config["patch_labels"]))], True
    if name.startswith("blocks.") and ".mlp." in name and config["num_experts"]:
        block, _, layer = name.partition(".mlp.")
        if layer.startswith("gate"):
            return [f"{block}.moe.{layer}"], False
        return [f"{block}.moe.experts.{i}.{layer}" for i in range(config["num_experts"])], True
    return [name], False
