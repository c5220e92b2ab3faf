"""Where training starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import SMALL
from training_runs import tiny

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.codec import PixelUnshuffleCodec
from diffusion_perception_ros.model.random import random_transformer
from diffusion_perception_ros.model.transformer import DiTMoETransformer
from diffusion_perception_ros.training.initialize import freeze, make_codec, make_transformer, upcycle

DENSE = {**SMALL, "num_experts": 0, "sample_size": 8, "patch_labels": None, "in_channels": 4}


def dense() -> DiTMoETransformer:
    return random_transformer(**DENSE, num_labels=1001)


def generalist(**changes: object) -> DiTMoETransformer:
    return random_transformer(1, **{**SMALL, "sample_size": 8, **changes})


def test_blocks_start_as_the_identity_and_the_transformer_as_zero() -> None:
    transformer = make_transformer(tiny(), make_codec(tiny()))
    tokens, condition = torch.randn(2, 16, 32), torch.randn(2, 32)
    for block in transformer.blocks:
        modulation = block.adaLN_modulation(condition)  # type: ignore[operator]  # a module
        torch.testing.assert_close(block(tokens, modulation), tokens)
    final_layer = transformer.final_layer
    assert final_layer(tokens, final_layer.adaLN_modulation(condition)).abs().max() == 0
    assert transformer.training
    assert all(parameter.requires_grad for parameter in transformer.parameters())


def test_the_seed_decides_the_weights() -> None:
    a, b, c = (make_transformer(tiny(seed=s), make_codec(tiny())).x_embedder.weight for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@torch.inference_mode()
@pytest.mark.parametrize("label", [1000, 1001, 1002, 1003])
def test_upcycled_generalist_is_the_dense_network(label: int) -> None:
    """With all experts chosen, and the same latent in all three slots, it says what the dense one said."""
    source = dense()
    target = generalist(num_experts_per_tok=SMALL["num_experts"])
    upcycle(source.state_dict(), target)
    group = (label - 1000) * 250
    table = source.y_embedder.embedding_table.weight
    table[7] = table[group : group + 250].mean(dim=0)
    latent, timestep = torch.randn(2, 4, 8, 8), torch.tensor([300])
    want = source(latent, timestep, torch.tensor([7, 7])).sample
    got = target(latent.repeat(1, 3, 1, 1) / 0.99, timestep, torch.tensor([label, label])).sample
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_upcycling_keeps_old_labels_and_the_null_label_last() -> None:
    source, target = dense(), generalist()
    upcycle(source.state_dict(), target)
    old, new = (t.y_embedder.embedding_table.weight for t in (source, target))
    assert torch.equal(new[:1000], old[:1000])
    assert torch.equal(new[1004], old[1000])
    torch.testing.assert_close(new[1001], old[250:500].mean(dim=0))


@torch.inference_mode()
def test_a_dense_generalist_is_upcycled_task_by_task() -> None:
    """Patch kernels and labels are those of the tasks, and the resolution may be another."""
    source = generalist(num_experts=0)
    target = generalist(num_experts_per_tok=SMALL["num_experts"])
    upcycle(source.state_dict(), target)
    latent, timestep, labels = torch.randn(4, 12, 8, 8), torch.tensor([300]), torch.tensor([1000, 1001, 1002, 1003])
    want = source(latent, timestep, labels).sample
    torch.testing.assert_close(target(latent, timestep, labels).sample, want, rtol=1e-4, atol=1e-4)
    larger = generalist(num_experts_per_tok=SMALL["num_experts"], sample_size=12)
    embedding = larger.pos_embed.clone()
    upcycle(source.state_dict(), larger)
    assert torch.equal(larger.pos_embed, embedding)
    assert torch.equal(larger.x_embedder.weight, source.x_embedder.weight)


@torch.inference_mode()
def test_a_checkpoint_goes_on_at_another_resolution(tmp_path: Path) -> None:
    config = tiny()
    make_transformer(config, make_codec(config)).save_pretrained(tmp_path / "transformer")
    PixelUnshuffleCodec(4).save(tmp_path / "vae")
    config = replace(config, resolution=48, seed=5, model=replace(config.model, init=tmp_path))
    resized = make_transformer(config, make_codec(config))
    assert resized.config.sample_size == 12
    fresh = make_transformer(replace(config, model=replace(config.model, init=None)), make_codec(config))
    weights = {name: weight for name, weight in resized.state_dict().items() if name != "pos_embed"}
    assert fresh.load_state_dict(weights, strict=False).missing_keys == ["pos_embed"]
    latent, timestep, label = torch.randn(1, 144, 12, 12), torch.tensor([300]), torch.tensor([1002])
    assert torch.equal(resized(latent, timestep, label).sample, fresh(latent, timestep, label).sample)
    resized.save_pretrained(tmp_path / "again")
    assert torch.equal(DiTMoETransformer.from_pretrained(tmp_path / "again").pos_embed, fresh.pos_embed)


@torch.inference_mode()
def test_a_checkpoint_goes_on_with_more_blocks(tmp_path: Path) -> None:
    """They change nothing until they have learned something."""
    config = tiny()
    start = random_transformer(**make_transformer(config, make_codec(config)).config)
    start.save_pretrained(tmp_path / "transformer")
    PixelUnshuffleCodec(4).save(tmp_path / "vae")
    num_layers = config.model.num_layers + 2
    config = replace(config, model=replace(config.model, init=tmp_path, num_layers=num_layers))
    deeper = make_transformer(config, make_codec(config))
    size = start.config.sample_size
    latent, timestep, label = torch.randn(1, 144, size, size), torch.tensor([300]), torch.tensor([1002])
    assert start(latent, timestep, label).sample.abs().max() > 0.1
    torch.testing.assert_close(deeper(latent, timestep, label).sample, start(latent, timestep, label).sample)
    assert len(deeper.blocks) == deeper.config.num_layers == num_layers
    with pytest.raises(InputError, match="its num_layers is 2, but the run's is 1; make them equal"):
        make_transformer(replace(config, model=replace(config.model, num_layers=1)), make_codec(config))


def test_frozen_parts() -> None:
    transformer = make_transformer(tiny(), make_codec(tiny()))
    freeze(transformer, ["stem", "y_embedder"])
    trained = {name.split(".")[0] for name, weight in transformer.named_parameters() if weight.requires_grad}
    assert trained == {"x_embedder", "t_embedder", "blocks", "final_layer", "head"}
    with pytest.raises(InputError, match="the network has no part 'vae'; use some of x_embedder, t_embedder"):
        freeze(transformer, ["vae"])


def test_starting_twice() -> None:
    with pytest.raises(InputError, match="init and upcycle both say where to start; set one of them to null"):
        replace(tiny().model, init=Path("a"), upcycle=Path("b"))


def test_upcycling_what_does_not_fit() -> None:
    deeper = generalist(num_layers=3)
    with pytest.raises(InputError, match=r"the dense weights lack 'blocks\.2"):
        upcycle(dense().state_dict(), deeper)
    wider = generalist(mlp_size=128)
    with pytest.raises(InputError, match="which does not fit"):
        upcycle(dense().state_dict(), wider)


def test_a_run_can_start_from_a_dense_checkpoint(tmp_path: Path) -> None:
    sizes = {**SMALL, "num_experts": 0, "num_labels": 1001, "in_channels": 48, "out_channels": 96, "patch_labels": None}
    source = random_transformer(
        sample_size=8, num_attention_heads=2, **{k: v for k, v in sizes.items() if "heads" not in k}
    )
    source.save_pretrained(tmp_path / "transformer")
    PixelUnshuffleCodec(4).save(tmp_path / "vae")
    config = tiny()
    config = replace(config, model=replace(config.model, upcycle=tmp_path, stem_channels=0))
    codec = make_codec(config)
    transformer = make_transformer(config, codec)
    assert transformer.config.out_channels == 96
    for expert in transformer.state_dict()["blocks.1.mlp.fc1.weight"]:
        assert torch.equal(expert, source.state_dict()["blocks.1.mlp.fc1.weight"])
    with pytest.raises(InputError, match="its num_attention_heads is 2, but the run's is 4; make them equal"):
        make_transformer(replace(config, model=replace(config.model, num_attention_heads=4)), codec)
