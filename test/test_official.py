"""Released files of every size and shape, and what is said of broken ones."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, write_official

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.official import OfficialCheckpoint
from diffusion_perception_ros.model.random import random_transformer
from diffusion_perception_ros.pipeline import PerceptionPipeline

HEADS: dict[str, Any] = {"num_attention_heads": 4, "num_experts_per_tok": 2}
StateDict = dict[str, torch.Tensor]


def test_round_trip_is_exact(tmp_path: Path, stable_diffusion: Path) -> None:
    write_official(tmp_path / "a.pt")
    pipe = PerceptionPipeline.from_official(tmp_path / "a.pt", stable_diffusion, **HEADS)
    want = random_transformer(sample_size=8, **SMALL)
    assert pipe.metadata.resolution == 64
    assert pipe.metadata.name == "a"
    for name, value in want.state_dict().items():
        assert torch.equal(pipe.transformer.state_dict()[name], value), name


@pytest.mark.parametrize(
    "config",
    [
        {"hidden_size": 80, "num_attention_heads": 5, "num_experts": 6, "num_experts_per_tok": 3, "mlp_size": 320},
        {"sample_size": 32, "hidden_size": 48, "num_attention_heads": 6, "num_layers": 3},
        {"patch_size": 4},
        {"num_experts": 8, "mlp_size": 96, "num_labels": 1010, "frequency_size": 64},
    ],
    ids=["5 heads, 6 experts top-3", "256x256", "patch 4", "other tables"],
)
def test_sizes_are_read_off_the_shapes(tmp_path: Path, stable_diffusion: Path, config: dict[str, Any]) -> None:
    write_official(tmp_path / "a.pt", **config)
    pipe = PerceptionPipeline.from_official(
        tmp_path / "a.pt",
        stable_diffusion,
        num_attention_heads=config.get("num_attention_heads", 4),
        num_experts_per_tok=config.get("num_experts_per_tok", 2),
    )
    want = {"sample_size": 8, **SMALL, **config}
    assert {key: pipe.transformer.config[key] for key in want} == want
    size = pipe.metadata.resolution
    images = torch.rand(2, 3, size, size) * 2 - 1
    out = pipe.sample(images, images.flip(0), torch.tensor([1000, 1003]), 2, generator=torch.Generator().manual_seed(0))
    assert out.shape == (2, 3, size, size)
    assert out.isfinite().all()


@pytest.mark.parametrize("num_experts", [0, 4])
@pytest.mark.parametrize("patch_labels", [None, (1000, 1001, 1002, 1003)])
def test_dense_and_single_task_files(
    tmp_path: Path, stable_diffusion: Path, num_experts: int, patch_labels: tuple[int, ...] | None
) -> None:
    state_dict = write_official(tmp_path / "a.pt", num_experts=num_experts, patch_labels=patch_labels)
    assert ("blocks.0.mlp.fc1.weight" in state_dict) == (num_experts == 0)
    assert ("x_embedder.proj.weight" in state_dict) == (patch_labels is None)
    pipe = PerceptionPipeline.from_official(tmp_path / "a.pt", stable_diffusion, **HEADS)
    want = random_transformer(sample_size=8, **{**SMALL, "num_experts": num_experts}, patch_labels=patch_labels)
    for name, value in want.state_dict().items():
        assert torch.equal(pipe.transformer.state_dict()[name], value), name


def test_single_task_file_knows_the_tasks_its_table_has_room_for(tmp_path: Path, stable_diffusion: Path) -> None:
    write_official(tmp_path / "a.pt", patch_labels=None, num_labels=1001)
    pipe = PerceptionPipeline.from_official(tmp_path / "a.pt", stable_diffusion, **HEADS)
    assert tuple(pipe.metadata.tasks) == ("depth",)


def test_training_file_with_ema_and_arguments(tmp_path: Path) -> None:
    state_dict = write_official(tmp_path / "a.pt")
    wrapped = {"ema": state_dict, "opt": {"lr": 1e-4}, "args": argparse.Namespace(global_seed=0)}
    torch.save(wrapped, tmp_path / "train.pt")
    official = OfficialCheckpoint(tmp_path / "train.pt", **HEADS)
    assert official.config == OfficialCheckpoint(tmp_path / "a.pt", **HEADS).config


def test_parameters_instead_of_tensors(tmp_path: Path) -> None:
    state_dict = write_official(tmp_path / "a.pt")
    torch.save({key: torch.nn.Parameter(value) for key, value in state_dict.items()}, tmp_path / "b.pt")
    transformer = OfficialCheckpoint(tmp_path / "b.pt", **HEADS).load_transformer(torch.float32, torch.device("cpu"))
    assert not any(parameter.requires_grad for parameter in transformer.parameters())


def test_files_from_before_zip_archives(tmp_path: Path) -> None:
    state_dict = write_official(tmp_path / "a.pt")
    torch.save(state_dict, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    old = OfficialCheckpoint(tmp_path / "old.pt", **HEADS).load_transformer(torch.float32, torch.device("cpu"))
    assert torch.equal(old.y_embedder.embedding_table.weight, state_dict["y_embedder.embedding_table.weight"])


def test_weights_are_cast_and_owned(tmp_path: Path) -> None:
    """The file may go once it is read."""
    write_official(tmp_path / "a.pt")
    transformer = OfficialCheckpoint(tmp_path / "a.pt", **HEADS).load_transformer(torch.float32, torch.device("cpu"))
    (tmp_path / "a.pt").write_bytes(b"\0" * (tmp_path / "a.pt").stat().st_size)
    want = random_transformer(sample_size=8, **SMALL)
    assert all(torch.equal(a, b) for a, b in zip(transformer.parameters(), want.parameters(), strict=True))
    half = random_transformer(sample_size=8, **SMALL)
    write_official(tmp_path / "b.pt")
    loaded = OfficialCheckpoint(tmp_path / "b.pt", **HEADS).load_transformer(torch.bfloat16, torch.device("cpu"))
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    assert torch.equal(loaded.pos_embed, half.pos_embed.to(torch.bfloat16))


FC = ("fc1", "fc2")


def renamed(state: StateDict, old: str, new: str) -> torch.Tensor:
    state[new] = state.pop(old)
    return state[new]


BROKEN: dict[str, tuple[Callable[[StateDict], Any], str]] = {
    "missing": (lambda s: s.pop("blocks.1.attn.qkv.weight"), "'blocks.1.attn.qkv.weight' is missing"),
    "missing expert": (lambda s: s.pop("blocks.0.moe.experts.2.fc1.bias"), "experts.2.fc1.bias' is missing"),
    "missing table": (lambda s: s.pop("y_embedder.embedding_table.weight"), "embedding_table.weight' is missing"),
    "extra": (lambda s: s.update(surprise=torch.zeros(1)), "'surprise' does not belong there"),
    "renamed": (lambda s: renamed(s, "pos_embed", "pos"), "'pos_embed' is missing"),
    "shape": (
        lambda s: s.update({"blocks.1.moe.gate.weight": torch.zeros(4, 31)}),
        "'blocks.1.moe.gate.weight' has shape (4, 31), expected (4, 32)",
    ),
    "missing last expert": (
        lambda s: [s.pop(f"blocks.0.moe.experts.3.{layer}.{kind}") for layer in FC for kind in ("weight", "bias")],
        "'blocks.0.moe.experts.3.fc1.bias' is missing (and 3 more)",
    ),
    "stray block": (
        lambda s: s.update({"blocks.99999999.x": torch.zeros(1)}),
        "'blocks.2.adaLN_modulation.1.bias' is missing",
    ),
    "prefix": (
        lambda s: [renamed(s, key, f"module.{key}") for key in list(s)],
        "it has such as 'module.blocks.0.adaLN_modulation.1.bias'",
    ),
    "empty kernel": (
        lambda s: s.update({"x_embedder.proj.conv_in_1.weight": torch.zeros(0, 12, 2, 2)}),
        "expected 4 dimensions, none of them zero",
    ),
    "dimensions": (lambda s: s.update(pos_embed=torch.zeros(16, 32)), "expected 3 dimensions"),
    "grid": (lambda s: s.update(pos_embed=torch.zeros(1, 15, 32)), "expected a square grid"),
    "type": (
        lambda s: s.update({"t_embedder.mlp.0.bias": torch.zeros(32, dtype=torch.int64)}),
        "'t_embedder.mlp.0.bias' has type torch.int64",
    ),
    "few labels": (
        lambda s: s.update({"y_embedder.embedding_table.weight": torch.zeros(1001, 32)}),
        "1001 label rows",
    ),
}


@pytest.mark.parametrize(("damage", "sentence"), BROKEN.values(), ids=BROKEN)
def test_broken_state_dicts(tmp_path: Path, damage: Callable[[StateDict], Any], sentence: str) -> None:
    state_dict = write_official(tmp_path / "a.pt")
    damage(state_dict)
    torch.save(state_dict, tmp_path / "a.pt")
    with pytest.raises(InputError) as caught:
        OfficialCheckpoint(tmp_path / "a.pt", **HEADS)
    assert sentence in str(caught.value)
    assert "a.pt" in str(caught.value)
    assert "\n" not in str(caught.value)


class Evil:
    """Unpickling this would call a function."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("evil"),)


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with pytest.raises(InputError, match="no such file"):
        OfficialCheckpoint(path, **HEADS)
    write_official(path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:100], b"", b"hello", b"\x80\x02]q\x00.", b"PK\x03\x04rest"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.pt: (not a PyTorch checkpoint|it holds no state dict)"):
            OfficialCheckpoint(path, **HEADS)
    sparse = torch.zeros(3).to_sparse()
    for stranger in ([1, 2], {}, {"a": 1}, {"ema": 3}, torch.zeros(3), {3: torch.zeros(1)}, {"a": sparse}):
        torch.save(stranger, path)
        with pytest.raises(InputError, match="holds no state dict"):
            OfficialCheckpoint(path, **HEADS)
    torch.save({"weight": Evil()}, path)
    with pytest.raises(InputError, match="which is code and not weights"):
        OfficialCheckpoint(path, **HEADS)
    assert not Path("evil").exists()


@pytest.mark.parametrize(
    ("heads", "sentence"),
    [
        ({"num_attention_heads": 5}, "num_attention_heads=5 does not divide the width 32"),
        ({"num_attention_heads": 0}, "num_attention_heads=0 does not divide"),
        ({"num_experts_per_tok": 9}, "num_experts_per_tok=9 does not fit the 4 experts"),
        ({"num_experts_per_tok": 0}, "num_experts_per_tok=0 does not fit"),
    ],
)
def test_sizes_that_only_the_caller_knows(tmp_path: Path, heads: dict[str, int], sentence: str) -> None:
    write_official(tmp_path / "a.pt")
    with pytest.raises(InputError, match=sentence):
        OfficialCheckpoint(tmp_path / "a.pt", **{**HEADS, **heads})
