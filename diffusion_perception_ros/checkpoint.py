"""A checkpoint's parts: whether they fit each other, and the released files turned into a folder of ours."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import init_empty_weights

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model import folder as checkpoint_folder
from diffusion_perception_ros.model.codec import ImageCodec
from diffusion_perception_ros.model.decoders import PerceptionDecoder
from diffusion_perception_ros.model.metadata import CheckpointMetadata
from diffusion_perception_ros.model.official import OfficialCheckpoint
from diffusion_perception_ros.model.transformer import DiTMoETransformer
from diffusion_perception_ros.sampling.samplers import find_sampler
from diffusion_perception_ros.tasks import channels_needed, check_encoding, released_encodings


def released_metadata(official: OfficialCheckpoint, codec: ImageCodec) -> CheckpointMetadata:
    """What a released file would declare if its format had room for it."""
    return CheckpointMetadata(
        resolution=official.config["sample_size"] * codec.downscale,
        tasks=released_encodings(official.config["num_labels"]),
        name=official.path.stem,
    )


def convert_official(
    checkpoint: Path,
    stable_diffusion: Path,
    folder: Path,
    *,
    num_attention_heads: int = 16,
    num_experts_per_tok: int = 2,
    torch_dtype: torch.dtype = torch.float32,
) -> CheckpointMetadata:
    """Turn a released file and its Stable Diffusion folder into one that ``from_pretrained`` loads.

    Streams: the host never holds more than one shard of the transformer.

    Args:
        checkpoint: The ``.pt`` file.
        stable_diffusion: A folder with ``vae/`` and ``scheduler/``.
        folder: Where to write; made if need be.
        num_attention_heads: Cannot be read off the weights.
        num_experts_per_tok: Likewise.
        torch_dtype: Type of the written weights.

    Raises:
        InputError: One sentence that names the file, key or shape at fault.
    """
    scheduler_config = checkpoint_folder.load_scheduler_config(stable_diffusion)
    codec = checkpoint_folder.load_codec(stable_diffusion, torch_dtype)
    official = OfficialCheckpoint(
        checkpoint, num_attention_heads=num_attention_heads, num_experts_per_tok=num_experts_per_tok
    )
    metadata = released_metadata(official, codec)
    with init_empty_weights():
        check_parts(DiTMoETransformer(**official.config), codec, metadata)
    checkpoint_folder.save_other_parts(folder, codec, scheduler_config, metadata)
    checkpoint_folder.convert_transformer(folder, official, torch_dtype)
    checkpoint_folder.share(folder)
    return metadata


def check_parts(transformer: DiTMoETransformer, codec: ImageCodec, metadata: CheckpointMetadata) -> None:
    """Whether the parts of a checkpoint fit each other.

    Raises:
        InputError: Names the two that do not.
    """
    config = transformer.config
    if config.in_channels != 3 * codec.latent_channels:
        raise InputError(
            f"the transformer takes {config.in_channels} channels, but image, prompt and target latents of "
            f"{codec.name} have 3 x {codec.latent_channels}; use the codec that it was trained with."
        )
    if config.out_channels < codec.latent_channels:
        raise InputError(
            f"the transformer predicts {config.out_channels} channels, "
            f"fewer than the {codec.latent_channels} of a latent of {codec.name}."
        )
    if config.sample_size * codec.downscale != metadata.resolution:
        raise InputError(
            f"a resolution of {metadata.resolution} does not fit latents of {config.sample_size} pixels "
            f"with the {codec.downscale}-fold {codec.name}."
        )
    find_sampler(metadata.sampler)
    for name, encoding in metadata.tasks.items():
        check_encoding(name, encoding)
        for label in encoding.labels:
            if label >= config.num_labels or label not in (config.patch_labels or [label]):
                raise InputError(f"task {name!r} has the label {label}, which the transformer has no weights for.")


def check_decoder(
    decoder: PerceptionDecoder, transformer: DiTMoETransformer, codec: ImageCodec, metadata: CheckpointMetadata
) -> None:
    """Whether a decoder was made for these parts.

    Raises:
        InputError: Says what does not fit.
    """
    for name, labels in decoder.tasks.items():
        encoding = metadata.tasks.get(name)
        if encoding is None or list(encoding.labels) != list(labels):
            own = f"the labels {list(encoding.labels)}" if encoding else "none"
            raise InputError(
                f"the decoder {decoder.name!r} is for task {name!r} with the labels {list(labels)}, but checkpoint "
                f"{metadata.name!r} has {own} for it; train it for this checkpoint."
            )
        if decoder.config.out_channels < channels_needed(name, encoding):
            raise InputError(f"the decoder {decoder.name!r} has one channel, but task {name!r} needs three.")
    if decoder.layers and decoder.layers[-1] >= transformer.config.num_layers:
        raise InputError(
            f"the decoder {decoder.name!r} reads block {decoder.layers[-1]}, but the transformer's last is "
            f"{transformer.config.num_layers - 1}; train it for this checkpoint."
        )
    for name, value in decoder.sizes(transformer, codec).items():
        made = decoder.config[name]
        if (list(made) if isinstance(made, (list, tuple)) else made) != value:
            raise InputError(
                f"the decoder {decoder.name!r} was made for {name} {made}, but this checkpoint has {value}; train it "
                "for this checkpoint."
            )
