"""A checkpoint's parts, loaded, made at random and saved together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from diffusion_perception_ros.checkpoint import check_decoder, check_parts, released_metadata
from diffusion_perception_ros.device import resolve_device
from diffusion_perception_ros.model import folder as checkpoint_folder
from diffusion_perception_ros.model.codec import ImageCodec
from diffusion_perception_ros.model.decoders import FULL, PerceptionDecoder, load_decoder, save_decoder
from diffusion_perception_ros.model.metadata import CheckpointMetadata
from diffusion_perception_ros.model.official import OfficialCheckpoint
from diffusion_perception_ros.model.random import SCHEDULER_CONFIG, random_codec, random_transformer
from diffusion_perception_ros.model.transformer import DiTMoETransformer
from diffusion_perception_ros.tasks import released_encodings

Made = TypeVar("Made", bound="Parts")


class Parts:
    """The generalist with its image codec, its noise schedule and what its checkpoint declares.

    Args:
        transformer: The network.
        codec: The image codec.
        scheduler_config: Config of the noise schedule that the network was trained on.
        metadata: What the checkpoint declares.
        decoder: What decodes the tasks that it serves; the codec decodes the others. One that reads features answers
            requests of a single step; those of more steps go through the codec.

    Raises:
        InputError: The parts do not fit each other.
    """

    def __init__(
        self,
        transformer: DiTMoETransformer,
        codec: ImageCodec,
        scheduler_config: dict[str, Any],
        metadata: CheckpointMetadata,
        decoder: PerceptionDecoder | None = None,
    ) -> None:
        check_parts(transformer, codec, metadata)
        if decoder:
            check_decoder(decoder, transformer, codec, metadata)
        self.transformer = transformer
        self.codec = codec
        self.scheduler_config = scheduler_config
        self.metadata = metadata
        self.decoder = decoder

    @classmethod
    def from_official(
        cls: type[Made],
        checkpoint: str | Path,
        stable_diffusion: str | Path,
        *,
        num_attention_heads: int = 16,
        num_experts_per_tok: int = 2,
        codec: str | Path | None = None,
        device: str | torch.device = "cpu",
        torch_dtype: torch.dtype = torch.float32,
    ) -> Made:
        """Load a released checkpoint.

        Args:
            checkpoint: The ``.pt`` file.
            stable_diffusion: A ``stable-diffusion-2/`` folder with ``vae/`` and ``scheduler/``.
            num_attention_heads: Cannot be read off the weights; 16 in all released models.
            num_experts_per_tok: Likewise; 2.
            codec: Folder of an image codec for the same latents that takes the place of that in ``stable_diffusion``,
                such as a tiny autoencoder.
            device: Where to run; ``auto`` is CUDA where there is one, else the CPU.
            torch_dtype: Type of weights and activations.

        Raises:
            InputError: One sentence that names the file, key or shape at fault.
        """
        checkpoint, stable_diffusion = Path(checkpoint), Path(stable_diffusion)
        target = resolve_device(device)
        # The small files first: their faults should not wait for gigabytes.
        scheduler_config = checkpoint_folder.load_scheduler_config(stable_diffusion)
        substitute = None if codec is None else Path(codec)
        image_codec = checkpoint_folder.load_codec(stable_diffusion, torch_dtype, substitute, target)
        official = OfficialCheckpoint(
            checkpoint, num_attention_heads=num_attention_heads, num_experts_per_tok=num_experts_per_tok
        )
        metadata = released_metadata(official, image_codec)
        transformer = official.load_transformer(torch_dtype, target)
        return cls(transformer, image_codec, scheduler_config, metadata)

    @classmethod
    def from_pretrained(
        cls: type[Made],
        folder: str | Path,
        device: str | torch.device = "cpu",
        torch_dtype: torch.dtype = torch.float32,
        *,
        codec: str | Path | None = None,
        decoder: str | None = None,
    ) -> Made:
        """Load what ``save_pretrained`` wrote.

        Args:
            folder: The checkpoint.
            device: Where to run; ``auto`` is CUDA where there is one, else the CPU.
            torch_dtype: Type of weights and activations.
            codec: Folder of an image codec for the same latents that takes the place of the checkpoint's, such as a
                tiny autoencoder.
            decoder: ``full``, ``latent`` or ``features``; by default the checkpoint's.

        Raises:
            InputError: The folder is not such a checkpoint, or a part of it cannot be read.
        """
        folder = Path(folder)
        target = resolve_device(device)
        metadata = checkpoint_folder.load_metadata(folder)
        scheduler_config = checkpoint_folder.load_scheduler_config(folder)
        substitute = None if codec is None else Path(codec)
        image_codec = checkpoint_folder.load_codec(folder, torch_dtype, substitute, target)
        chosen = load_decoder(folder, metadata.decoder if decoder is None else decoder, torch_dtype, target)
        transformer = checkpoint_folder.load_transformer(folder, torch_dtype, target)
        return cls(transformer, image_codec, scheduler_config, metadata, chosen)

    @classmethod
    def random(
        cls: type[Made],
        resolution: int = 128,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
        torch_dtype: torch.dtype = torch.float32,
        codec: ImageCodec | None = None,
        scheduler_config: Mapping[str, Any] = SCHEDULER_CONFIG,
        **config: Any,
    ) -> Made:
        """The released architecture with random weights: for tests, benchmarks and dry runs.

        Args:
            resolution: Side of the square image the network sees, in pixels.
            seed: Of the weights.
            device: Where to run.
            torch_dtype: Type of weights and activations.
            codec: The image codec, of that type; a small random one by default.
            scheduler_config: The noise schedule.
            config: Sizes of the transformer where they differ from a small default.
        """
        target = resolve_device(device)
        codec = (codec or random_codec(seed, torch_dtype)).to(target)
        small = {"hidden_size": 64, "num_layers": 2, "num_attention_heads": 4, "mlp_size": 256, "num_experts": 4}
        sizes = {"sample_size": resolution // codec.downscale, **small, **config}
        transformer = random_transformer(seed, torch_dtype, **sizes)
        transformer.to(target)
        metadata = CheckpointMetadata(
            resolution=resolution,
            tasks=released_encodings(transformer.config.num_labels),
            sampler="ddim_trailing",
            num_inference_steps=1,
            name="random",
            is_random=True,
        )
        return cls(transformer, codec, dict(scheduler_config), metadata)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a checkpoint folder in diffusers' layout: safetensors and JSON; the decoder in use is its default."""
        metadata = replace(self.metadata, decoder=self.decoder.name if self.decoder else FULL)
        checkpoint_folder.save_other_parts(Path(folder), self.codec, self.scheduler_config, metadata)
        if self.decoder:
            save_decoder(Path(folder), self.decoder)
        checkpoint_folder.save_transformer(Path(folder), self.transformer)
        checkpoint_folder.share(Path(folder))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.transformer.pos_embed.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of weights and activations."""
        return self.transformer.pos_embed.dtype

    def decoding(self, num_inference_steps: int) -> str:
        """What decodes the answers to a request of so many steps: the codec's name, or also the decoder's."""
        decoder = self.decoder
        if decoder is None or (decoder.layers and num_inference_steps > 1):
            return self.codec.name
        return f"{self.codec.name}, {decoder.name} decoder"
