"""Where training starts: random weights, another checkpoint, or a dense transformer made into a generalist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.blocks import Block, FinalLayer
from diffusion_perception_ros.model.codec import ImageCodec, PixelUnshuffleCodec
from diffusion_perception_ros.model.convolutions import ConditionedBlock, Lookup
from diffusion_perception_ros.model.embeddings import sincos_position_embedding
from diffusion_perception_ros.model.folder import load_codec, load_transformer
from diffusion_perception_ros.model.transformer import DiTMoETransformer
from diffusion_perception_ros.training.generalist_config import GeneralistConfig

# Three latents instead of one are three times as much input, so each gets a third of the weight.
_WIDENING = 0.33


def make_codec(config: GeneralistConfig) -> ImageCodec:
    """The image codec that a run trains behind; it is not trained itself."""
    folder = config.model.codec or config.model.init or config.model.upcycle
    return load_codec(folder, torch.float32) if folder else PixelUnshuffleCodec(config.model.pixel_unshuffle)


def make_transformer(config: GeneralistConfig, codec: ImageCodec) -> DiTMoETransformer:
    """The network a run starts from.

    Raises:
        InputError: Resolution, codec and network do not fit each other, or the checkpoint to start from does not fit.
    """
    model = config.model
    sizes = {
        name: getattr(model, name)
        for name in (
            "patch_size", "hidden_size", "num_layers", "num_attention_heads", "mlp_size", "num_experts",
            "num_experts_per_tok", "stem_channels", "stem_blocks", "stem_levels", "correlation_radius", "lookup_radius",
        )
    }  # fmt: skip
    sizes |= {
        "sample_size": config.resolution // codec.downscale,
        "in_channels": 3 * codec.latent_channels,
        "num_labels": config.num_labels,
        "patch_labels": sorted(label for task in config.tasks.values() for label in task.labels),
    }
    if config.resolution % (codec.downscale * model.patch_size):
        raise InputError(
            f"resolution {config.resolution} is no multiple of "
            f"{codec.downscale} (codec) x {model.patch_size} (patches)."
        )
    if model.init:
        transformer: DiTMoETransformer = load_transformer(model.init, torch.float32)
        sample_size = sizes.pop("sample_size")
        if transformer.config.num_layers < model.num_layers:
            deepen(transformer, model.num_layers, config.seed)
        _check_sizes(model.init, transformer, sizes)
        resize(transformer, sample_size)
        transformer.train().requires_grad_(True)
        return transformer
    dense = load_transformer(model.upcycle, torch.float32) if model.upcycle else None
    if dense:
        # Heads do not show in the weights' shapes, nor does which patch kernel is whose.
        names = ["num_attention_heads"] + ["patch_labels"] * (dense.config.patch_labels is not None)
        _check_sizes(model.upcycle, dense, {name: sizes[name] for name in names})
    # A released network has a second half of its output, the learned sigma; nobody reads it.
    out_channels = dense.config.out_channels if dense else codec.latent_channels
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(config.seed)
        try:
            transformer = DiTMoETransformer(**sizes, out_channels=out_channels)
        except ValueError as error:
            raise InputError(f"model: {error}.") from None
        initialize_weights(transformer)
    if dense:
        upcycle(dense.state_dict(), transformer)
    transformer.train()
    return transformer


def resize(transformer: DiTMoETransformer, sample_size: int) -> None:
    """Continue at another resolution, in place.

    No weight depends on it: the position embedding is fixed, and the grid of tokens counts on from the same corner.

    Args:
        transformer: The network.
        sample_size: New height and width of the latent.
    """
    transformer.register_to_config(sample_size=sample_size)
    transformer.grid_size = sample_size // transformer.patch_size
    transformer.pos_embed = sincos_position_embedding(transformer.config.hidden_size, transformer.grid_size)


def deepen(transformer: DiTMoETransformer, num_layers: int, seed: int) -> None:
    """Append blocks, in place, that start as the identity: the network computes what it did before.

    Args:
        transformer: The network.
        num_layers: How many blocks it then has.
        seed: Of the new weights.
    """
    sizes = [
        transformer.config[name]
        for name in ("hidden_size", "mlp_size", "num_attention_heads", "num_experts", "num_experts_per_tok")
    ]
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        for _ in range(num_layers - len(transformer.blocks)):
            block = Block(*sizes)
            _start_as_identity(block)
            transformer.blocks.append(block)
    transformer.register_to_config(num_layers=num_layers)


def freeze(transformer: DiTMoETransformer, parts: Sequence[str]) -> None:
    """Take parts of the network out of training.

    Raises:
        InputError: There is no such part.
    """
    children = dict(transformer.named_children())
    for part in parts:
        if part not in children:
            raise InputError(f"model.frozen: the network has no part {part!r}; use some of {', '.join(children)}.")
        children[part].requires_grad_(False)


def initialize_weights(transformer: DiTMoETransformer) -> None:
    """Every block starts as the identity and the output as zero (adaLN-Zero, Peebles & Xie 2023)."""
    for module in transformer.modules():
        if isinstance(module, Block):
            _start_as_identity(module)
        elif isinstance(module, FinalLayer):
            _zero(module.adaLN_modulation[-1])
            _zero(module.linear)
        elif isinstance(module, ConditionedBlock):
            _zero(module.modulation[-1])
        elif isinstance(module, Lookup):
            # What is not believed to have moved is looked for where it was.
            _zero(module.offset)
    for layer in transformer.t_embedder.mlp:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.02)


def upcycle(dense: Mapping[str, Tensor], transformer: DiTMoETransformer) -> None:
    """Start a generalist from a dense DiT of the same width and depth, class-conditional or itself a generalist.

    Ravishankar et al. 2025: one patch convolution is repeated for image, prompt and target latent, and for every task;
    every expert starts as a copy of its block's MLP (sparse upcycling, Komatsuzaki et al. 2023, arXiv 2212.05055), the
    router at random; the label of each new task starts as the mean of an equal part of the old labels.

    Args:
        dense: Weights by our names, with MLPs for mixtures. With one patch kernel, or one for each task; with fewer
            labels, the last being the null label of classifier-free training, or with these. The resolution may differ.
        transformer: The generalist; its experts' weights are random.

    Raises:
        InputError: A weight is missing or does not fit.
    """
    state = transformer.state_dict()
    for name, value in state.items():
        if name.endswith("mlp.gate.weight") or name == "pos_embed":
            continue
        if name not in dense:
            raise InputError(f"the dense weights lack {name!r}; they are not of a DiT of the same depth.")
        given = dense[name]
        if name == "x_embedder.weight":
            copies = len(value) if len(given) == 1 else 1
            given = given.repeat(copies, 1, value.shape[2] // given.shape[2], 1, 1)
            given = given * _WIDENING if value.shape[2] > dense[name].shape[2] else given
        elif name == "x_embedder.bias":
            given = given.expand(len(value), -1)
        elif name == "y_embedder.embedding_table.weight":
            given = _extend_labels(given, len(value))
        elif given.ndim == value.ndim - 1:
            given = given.expand(len(value), *given.shape)
        if given.shape != value.shape:
            raise InputError(
                f"the dense weight {name!r} is {tuple(given.shape)}, which does not fit {tuple(value.shape)}."
            )
        state[name] = given.clone()
    transformer.load_state_dict(state)


def _extend_labels(table: Tensor, num_labels: int) -> Tensor:
    """Rows for new labels between the old ones and the null label, which stays last."""
    classes, null = table[:-1], table[-1:]
    new = num_labels - len(table)
    if new <= 0:
        return table
    means = [group.mean(dim=0) for group in classes.chunk(new)]
    return torch.cat([classes, torch.stack(means), null])


def _start_as_identity(block: Block) -> None:
    for linear in (block.attn.qkv, block.attn.proj):
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
    _zero(block.adaLN_modulation[-1])


def _zero(module: nn.Module) -> None:
    assert isinstance(module, (nn.Linear, nn.Conv2d))
    assert module.bias is not None
    nn.init.zeros_(module.weight)
    nn.init.zeros_(module.bias)


def _check_sizes(folder: Path | None, transformer: DiTMoETransformer, sizes: Mapping[str, object]) -> None:
    for name, value in sizes.items():
        other = transformer.config[name]
        if (list(other) if isinstance(other, (list, tuple)) else other) != value:
            raise InputError(f"{folder}: its {name} is {other}, but the run's is {value}; make them equal.")
