"""What stage 1, the training of an image codec, is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.training.config import TrainingConfig


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of the autoencoder, which is one of diffusers.

    Attributes:
        kind: ``AutoencoderKL``, or ``AutoencoderTiny``, which is several times as fast.
        latent_channels: Channels of a latent.
        block_channels: Channels at each resolution, the image's own first; each further one is half as large.
            ``AutoencoderTiny`` has one number of channels for all.
        blocks: Residual blocks at each resolution.
    """

    kind: str
    latent_channels: int
    block_channels: tuple[int, ...]
    blocks: int = 1

    def __post_init__(self) -> None:
        if self.kind not in ("AutoencoderKL", "AutoencoderTiny"):
            raise InputError(f"the kind {self.kind!r} is unknown; use AutoencoderKL or AutoencoderTiny.")
        if min(self.latent_channels, self.blocks, len(self.block_channels), *self.block_channels) < 1:
            raise InputError("latent_channels, blocks and all of block_channels must be at least 1.")
        if self.kind == "AutoencoderTiny" and len(set(self.block_channels)) > 1:
            raise InputError(
                f"AutoencoderTiny has as many channels at all resolutions, not {list(self.block_channels)}; "
                "repeat one number."
            )

    @property
    def downscale(self) -> int:
        """Image pixels per latent pixel, along a side."""
        return int(2 ** (len(self.block_channels) - 1))


@dataclass(frozen=True)
class CodecLossConfig:
    """Weights of the losses beside the mean absolute error, whose weight is 1.

    Attributes:
        gradient: Of the error's gradients at several scales, which keep edges sharp.
        kl: Of the Kullback-Leibler divergence from a standard normal distribution, a mean over the values of a latent;
            0 trains ``AutoencoderKL`` as it is used, without sampling.
    """

    gradient: float = 1.0
    kl: float = 0.0

    def __post_init__(self) -> None:
        for name in ("gradient", "kl"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name} is {getattr(self, name)}; give 0 or a number above.")


@dataclass(frozen=True, kw_only=True)
class CodecConfig(TrainingConfig):
    """A run that trains an image codec on what the tasks put through it.

    Attributes:
        codec: The autoencoder.
        loss: Which losses.
    """

    codec: AutoencoderConfig
    loss: CodecLossConfig = field(default_factory=CodecLossConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resolution % self.codec.downscale:
            raise InputError(
                f"resolution {self.resolution} is no multiple of {self.codec.downscale}, which "
                f"{len(self.codec.block_channels)} block_channels shrink it by."
            )
        if self.loss.kl and self.codec.kind == "AutoencoderTiny":
            raise InputError("AutoencoderTiny has no distribution to sample from; leave out loss.kl.")
