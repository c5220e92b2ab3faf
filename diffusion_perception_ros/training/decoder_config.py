"""What stage 3, the training of a decoder of perception, is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.training.config import TrainingConfig


@dataclass(frozen=True)
class HeadConfig:
    """Which decoder, and its sizes, see ``LatentDecoder`` and ``FeatureDecoder``.

    Attributes:
        kind: ``latent``, or ``features``.
        channels: Of the convolutions; those of ``features`` at the finest resolution, a multiple of 8.
        blocks: Residual blocks of ``latent``.
        layers: Blocks of the transformer that ``features`` reads.
        lookup_radius: Of the comparison of image and prompt at the end of ``features``; 0 for none.
        thin_stem: Channels of a stem of its own for ``features``, a multiple of 8; 0 for the transformer's.
        correlation_radius: Of the comparison of image and prompt in that stem; 0 for none.
    """

    kind: str
    channels: int
    blocks: int = 4
    layers: tuple[int, ...] = ()
    lookup_radius: int = 0
    thin_stem: int = 0
    correlation_radius: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("latent", "features"):
            raise InputError(f"the kind {self.kind!r} is unknown; use latent or features.")
        if self.channels < 1 or min(self.blocks, self.lookup_radius, self.thin_stem, self.correlation_radius) < 0:
            raise InputError("channels must be at least 1, the other sizes at least 0.")
        if self.kind == "features":
            if not self.layers or list(self.layers) != sorted(self.layers) or self.layers[0] < 0:
                raise InputError(f"layers is {list(self.layers)}; list numbers of blocks, from 0, in ascending order.")
            if self.channels % 8 or self.thin_stem % 8:
                raise InputError(
                    f"channels is {self.channels} and thin_stem {self.thin_stem}; the norms of features need multiples "
                    "of 8."
                )
            if self.correlation_radius and not self.thin_stem:
                raise InputError("correlation_radius is of a stem of its own; set thin_stem, or leave it out.")
        elif self.layers or self.lookup_radius or self.thin_stem or self.correlation_radius:
            raise InputError("latent reads latents alone; leave out layers, lookup_radius, thin_stem and the like.")


@dataclass(frozen=True)
class DecoderLossConfig:
    """Weights of the losses, all of them about images, and what they are measured on.

    Attributes:
        image: Of the task's image-level loss, that of the generalist.
        scale_shift: Of depth's error after scale and shift of both are taken out.
        gradient: Of the gradients of the error, at several scales.
        distillation: Of the difference from what the codec's decoder makes of the same answer, and its gradients.
        stem: Of the squared error of a thin stem's last features, as a share of the variance of the transformer's.
        lookup: Of how far off a lookup looks, in pixels of the latent.
        zeros_share: Share of samples that start from zeros instead of noise, as the sampler ``one_step`` does.
        truth_share: Share of samples of ``latent`` whose latents are the truth's instead of predicted ones.
    """

    image: float = 1.0
    scale_shift: float = 0.5
    gradient: float = 0.5
    distillation: float = 1.0
    stem: float = 1.0
    lookup: float = 0.1
    zeros_share: float = 0.25
    truth_share: float = 0.5

    def __post_init__(self) -> None:
        for name in ("image", "scale_shift", "gradient", "distillation", "stem", "lookup"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} is {value}; give 0 or a number above.")
        for name in ("zeros_share", "truth_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; give a share from 0 to 1.")


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(TrainingConfig):
    """A run that trains a decoder for a checkpoint, which itself stays as it is.

    Attributes:
        checkpoint: Its folder; ``embedded`` is the one that comes with the package.
        decoder: Which decoder. It serves the run's tasks, whose encodings are the checkpoint's.
        loss: Which losses.
        default: Whether the checkpoint uses it unless told otherwise.
    """

    checkpoint: Path
    decoder: HeadConfig
    loss: DecoderLossConfig = field(default_factory=DecoderLossConfig)
    default: bool = False
