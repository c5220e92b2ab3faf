"""The DiT-MoE generalist: a diffusion transformer whose class label names the task.

Peebles & Xie, "Scalable Diffusion Models with Transformers" (ICCV 2023) with the mixture of experts and the
per-task patch embedding of Ravishankar et al., "Scaling Properties of Diffusion Models for Perceptual Tasks"
(CVPR 2025).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from diffusion_perception_ros.model.blocks import Block, FinalLayer
from diffusion_perception_ros.model.convolutions import ConvHead, ConvStem, LevelModulations
from diffusion_perception_ros.model.embeddings import (
    Condition,
    LabelEmbedder,
    PatchEmbed,
    TimestepEmbedder,
    sincos_position_embedding,
)


@dataclass
class TransformerOutput(BaseOutput):  # type: ignore[misc]  # diffusers is untyped
    """Output of the transformer.

    Attributes:
        sample: (B, out_channels, H, W). The first latent channels are the prediction, the rest the learned
            sigma of the released checkpoints, which samplers drop.
    """

    sample: Tensor


@dataclass(frozen=True)
class Features:
    """What the network makes of a batch before it writes its prediction.

    Attributes:
        condition: Of timestep and label.
        tokens: (B, T, D) after each block that was asked for.
        stem: What the convolutions before the transformer gave, (B, C, h, w), the finest resolution first; the latents
            themselves without them.
        compared: What the correlation compared of image and prompt, (B, C, h, w) each; None without one.
    """

    condition: Condition
    tokens: Sequence[Tensor]
    stem: Sequence[Tensor]
    compared: tuple[Tensor, Tensor] | None


Stem = Callable[[Tensor, Condition, Tensor], tuple[Sequence[Tensor], tuple[Tensor, Tensor] | None]]


class Modulations(NamedTuple):
    """What timesteps and class labels do to the network: the shifts, scales and gates of all its layers.

    Nothing else depends on them, so that a whole schedule's can be computed at once, see
    `DiTMoETransformer.modulations`. Each tensor is (B, channels), or (steps, B, channels).

    Attributes:
        stem: Of the convolutions before the transformer, by resolution and block.
        blocks: Of each block.
        final: Of the final layer.
        head: Of the convolutions after the transformer.
    """

    stem: LevelModulations
    blocks: list[Tensor]
    final: Tensor
    head: LevelModulations

    def step(self, i: int) -> Modulations:
        """Those of one step of a schedule."""
        stem, head = ([[block[i] for block in level] for level in levels] for levels in (self.stem, self.head))
        return Modulations(stem, [block[i] for block in self.blocks], self.final[i], head)


class DiTMoETransformer(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers is untyped
    """Predicts the diffusion target of each sample's task.

    Args:
        sample_size: Height and width of the latent, a multiple of ``patch_size``.
        patch_size: Side of a patch, in latent pixels.
        in_channels: Channels of ``cat[image latent, prompt latent, noisy target latent]``.
        out_channels: Channels of the output.
        hidden_size: Width, a multiple of 4 and of ``num_attention_heads``.
        num_layers: Number of blocks.
        num_attention_heads: Heads of each attention.
        mlp_size: Hidden width of an MLP or expert.
        num_experts: Experts per block; 0 for a dense MLP.
        num_experts_per_tok: Experts that each token is sent to.
        num_labels: Rows of the label table.
        patch_labels: The class labels that have a patch convolution of their own; None where all labels
            share one.
        frequency_size: Width of the sinusoidal timestep embedding.
        stem_channels: Width of the convolutions around the transformer, a multiple of 8; 0 for none, as released.
        stem_blocks: Residual blocks before, and as many after it, at each resolution.
        stem_levels: Resolutions of the convolutions, each half the one before and twice as wide.
        correlation_radius: Largest displacement, in pixels of each resolution of the convolutions, at which they
            compare image and prompt; 0 for no comparison.
        lookup_radius: Likewise at the finest resolution once more before the end, around where each place is then
            believed to be found; 0 for no such comparison.

    Raises:
        ValueError: The convolutions' resolutions do not fit the patches, or there is nothing to compare.
    """

    _no_split_modules = ("Block",)
    # Whether to compute the modulations of many steps at once; of a step that is a graph they are part.
    modulates_ahead = True

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        sample_size: int = 64,
        patch_size: int = 2,
        in_channels: int = 12,
        out_channels: int = 8,
        hidden_size: int = 1152,
        num_layers: int = 28,
        num_attention_heads: int = 16,
        mlp_size: int = 4608,
        num_experts: int = 8,
        num_experts_per_tok: int = 2,
        num_labels: int = 1005,
        patch_labels: Sequence[int] | None = (1000, 1001, 1002, 1003),
        frequency_size: int = 256,
        stem_channels: int = 0,
        stem_blocks: int = 1,
        stem_levels: int = 1,
        correlation_radius: int = 0,
        lookup_radius: int = 0,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.grid_size = sample_size // patch_size
        labels = tuple(patch_labels) if patch_labels is not None else ()
        if not stem_channels and (stem_levels > 1 or correlation_radius):
            raise ValueError("stem_levels and correlation_radius need convolutions; set stem_channels")
        if lookup_radius and not correlation_radius:
            raise ValueError("lookup_radius needs the features that are compared; set correlation_radius")
        if patch_size % 2 ** (stem_levels - 1):
            raise ValueError(f"patch_size {patch_size} cannot be halved {stem_levels - 1} times, as stem_levels asks")
        # What becomes tokens: the latent itself, or the features of the coarsest level of the convolutions.
        shrink = 2 ** (stem_levels - 1)
        width, out_width = (stem_channels * shrink,) * 2 if stem_channels else (in_channels, out_channels)
        self.token_size = patch_size // shrink
        self.x_embedder = PatchEmbed(max(len(labels), 1), width, hidden_size, self.token_size)
        self.t_embedder = TimestepEmbedder(hidden_size, frequency_size)
        self.y_embedder = LabelEmbedder(num_labels, hidden_size)
        self.blocks = nn.ModuleList(
            Block(hidden_size, mlp_size, num_attention_heads, num_experts, num_experts_per_tok)
            for _ in range(num_layers)
        )
        self.final_layer = FinalLayer(hidden_size, self.token_size, out_width)
        self.stem: ConvStem | None = None
        self.head: ConvHead | None = None
        if stem_channels:
            sizes = stem_channels, stem_levels, stem_blocks, hidden_size
            self.stem = ConvStem(in_channels, *sizes, correlation_radius)
            self.head = ConvHead(out_channels, *sizes, lookup_radius)
        self.register_buffer("pos_embed", sincos_position_embedding(hidden_size, self.grid_size))
        kernel_of_label = torch.zeros(num_labels, dtype=torch.long)
        kernel_of_label[list(labels)] = torch.arange(len(labels))
        self.register_buffer("kernel_of_label", kernel_of_label, persistent=False)
        self.pos_embed: Tensor
        self.kernel_of_label: Tensor

    def condition(self, timestep: Tensor, class_labels: Tensor) -> Condition:
        """Of timesteps and labels; see ``modulations`` for the arguments."""
        return Condition(self.t_embedder(timestep) + self.y_embedder(class_labels))

    def modulations(self, timestep: Tensor, class_labels: Tensor) -> Modulations:
        """What the forward pass needs to know of timesteps and labels.

        Args:
            timestep: (B,) or (1,); or (steps, 1), a whole schedule.
            class_labels: (B,).
        """
        condition = self.condition(timestep, class_labels)
        return Modulations(
            self.stem.modulations(condition) if self.stem else [],
            [condition(block.adaLN_modulation) for block in self.blocks],  # type: ignore[arg-type]  # modules
            condition(self.final_layer.adaLN_modulation),
            self.head.modulations(condition) if self.head else [],
        )

    def forward(
        self, hidden_states: Tensor, timestep: Tensor, class_labels: Tensor, modulations: Modulations | None = None
    ) -> TransformerOutput:
        """One evaluation of the network; on a GPU it never synchronises host and device.

        Args:
            hidden_states: (B, in_channels, sample_size, sample_size).
            timestep: (B,), or (1,) or () for one shared by the batch; may be fractional.
            class_labels: (B,) integer labels, which pick task and patch convolution per sample.
            modulations: Of that timestep and those labels, where they are known already.

        Returns:
            ``.sample`` of shape (B, out_channels, sample_size, sample_size).

        Raises:
            ValueError: ``hidden_states`` has another height or width.
        """
        size = self.grid_size * self.patch_size
        if hidden_states.shape[-2:] != (size, size):
            raise ValueError(f"latents are {tuple(hidden_states.shape[-2:])}, this transformer takes {size}x{size}")
        modulations = modulations or self.modulations(timestep.reshape(-1), class_labels)
        features, compared = self.stem(hidden_states, modulations.stem) if self.stem else ([hidden_states], None)
        x = self.x_embedder(features[-1], self.kernel_of_label[class_labels]) + self.pos_embed
        for block, modulation in zip(self.blocks, modulations.blocks, strict=True):
            x = block(x, modulation)
        x = self._unpatchify(self.final_layer(x, modulations.final))
        return TransformerOutput(sample=self.head(x, features, compared, modulations.head) if self.head else x)

    def features(
        self,
        hidden_states: Tensor,
        condition: Condition,
        class_labels: Tensor,
        layers: Sequence[int] | None = None,
        stem: Stem | None = None,
    ) -> Features:
        """What decoders read that do without the prediction; see ``forward`` for the arguments.

        Args:
            hidden_states: See there.
            condition: Of timestep and labels.
            class_labels: See there.
            layers: The blocks after which tokens are wanted, in ascending order, and maybe one of them again; none
                after the last is computed. By default the last block of all.
            stem: Takes the place of the convolutions before the transformer: of input, condition and labels, see
                ``ThinStem``.
        """
        wanted = (len(self.blocks) - 1,) if layers is None else tuple(layers)
        given: Sequence[Tensor] = [hidden_states]
        compared = None
        if stem:
            given, compared = stem(hidden_states, condition, class_labels)
        elif self.stem:
            given, compared = self.stem(hidden_states, self.stem.modulations(condition))
        x = self.x_embedder(given[-1], self.kernel_of_label[class_labels]) + self.pos_embed
        tokens: list[Tensor] = []
        for i, block in enumerate(self.blocks[: wanted[-1] + 1]):
            x = block(x, condition(block.adaLN_modulation))  # type: ignore[arg-type]  # modules
            tokens += [x] * wanted.count(i)
        return Features(condition, tokens, given, compared)

    def predict(self, features: Features) -> Tensor:
        """From the features of the last block to (B, out_channels, sample_size, sample_size)."""
        condition = features.condition
        x = self._unpatchify(self.final_layer(features.tokens[-1], condition(self.final_layer.adaLN_modulation)))
        if self.head is None:
            return x
        out: Tensor = self.head(x, features.stem, features.compared, self.head.modulations(condition))
        return out

    def _unpatchify(self, x: Tensor) -> Tensor:
        """(B, T, p*p*C) to (B, C, H, W), channels last in memory."""
        g, p = self.grid_size, self.token_size
        x = x.unflatten(2, (p, p, -1)).unflatten(1, (g, g)).transpose(2, 3)
        return x.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def cast(model: nn.Module, dtype: torch.dtype) -> None:
    """Changes the type of a model's weights in place.

    Not by the method that diffusers overrides, which warns about an empty list of modules to be kept in float32.
    """
    nn.Module.to(model, dtype=dtype)


def channels_last(transformer: DiTMoETransformer) -> None:
    """Lays out the kernels of its convolutions, in place, as they are fastest; loading weights undoes that."""
    for part in (transformer.stem, transformer.head):
        if part is not None:
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
