"""Losses of decoders of perception: about the image, against the truth and against the codec's decoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from diffusion_perception_ros.tasks import Target
from diffusion_perception_ros.training.batches import Questions
from diffusion_perception_ros.training.codec_losses import gradient_loss
from diffusion_perception_ros.training.decoder_answers import Asking, Decoded
from diffusion_perception_ros.training.decoder_config import DecoderConfig
from diffusion_perception_ros.training.lookup import Offsets, offset_loss
from diffusion_perception_ros.training.losses import find_image_loss

_SCALES = 4
# Of the range of 2: less of a spread has no scale.
_LEAST_SPREAD = 0.05


class DecoderLosses:
    """What a batch costs.

    Args:
        config: Of the run.
        asking: Asks the checkpoint.
        offsets: Watches the lookup of the decoder.
    """

    def __init__(self, config: DecoderConfig, asking: Asking, offsets: Offsets) -> None:
        self.config = config
        self.asking = asking
        self.offsets = offsets
        self._image_losses = {name: find_image_loss(task.encoding()) for name, task in config.tasks.items()}

    def __call__(
        self, network: nn.Module, batch: Sequence[Questions], rng: np.random.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and its parts without their weights."""
        weights = self.config.loss
        shapes = [questions.target.images.shape[:2] for questions in batch]
        counts = [shape.numel() for shape in shapes]
        decoded, latents = self._decode(network, batch, rng)
        images = decoded.images.float().expand(-1, 3, -1, -1).split(counts)
        taught: Sequence[Tensor | None] = [None] * len(batch)
        if weights.distillation and latents is not None:
            with torch.no_grad():
                taught = self.asking.pipe.codec.decode(latents).split(counts)
        offset = self.offsets.take()
        places: Sequence[Tensor | None] = [None] * len(batch) if offset is None else offset.split(counts)

        parts: dict[str, Tensor] = {}
        total = images[0].new_zeros(())
        for questions, shape, image, teacher, place in zip(batch, shapes, images, taught, places, strict=True):
            losses = self._of_task(questions, image.unflatten(0, shape))
            if teacher is not None:
                error = image - teacher
                losses["distillation"] = (error.abs().mean(dim=(1, 2, 3)) + gradient_loss(error)).mean()
            if place is not None:
                losses["lookup"] = offset_loss(place.unflatten(0, shape), questions).mean()
            share = shape.numel() / sum(counts) * self.config.tasks[questions.task].weight
            for name, loss in losses.items():
                parts[f"{questions.task}_{name}"] = loss
                total = total + share * getattr(weights, name) * loss
        if decoded.stem is not None:
            own, wanted = (features.float() for features in decoded.stem)
            parts["stem"] = (own - wanted).square().mean() / wanted.var()
            total = total + weights.stem * parts["stem"]
        return total, parts

    def _decode(
        self, network: nn.Module, batch: Sequence[Questions], rng: np.random.Generator
    ) -> tuple[Decoded, Tensor | None]:
        """What the decoder makes of a batch, and the latents that the codec would decode."""
        inputs = self.asking.inputs(batch, rng)
        if self.config.decoder.kind == "latent":
            latents = self.asking.latents(batch, inputs, rng)
            return network(inputs.labels, latents), latents
        decoded = network(inputs.labels, inputs.x, inputs.timestep, bool(self.config.loss.distillation))
        return decoded, None if decoded.output is None else self.asking.clean(decoded.output, inputs)

    def _of_task(self, questions: Questions, images: Tensor) -> dict[str, Tensor]:
        """Against the truth, by kind, means over the questions."""
        weights, target = self.config.loss, questions.target
        losses = {}
        if weights.image:
            losses["image"] = self._image_losses[questions.task](images, target, questions.truth).mean()
        error = images - target.images
        if questions.task == "depth":
            x, wanted = (standardize(image.mean(dim=(1, 2)), target.valid) for image in (images, target.images))
            error = (x - wanted)[:, None, None]
            if weights.scale_shift:
                losses["scale_shift"] = _mean(error.abs().mean(dim=(1, 2)), target.valid).mean()
        if weights.gradient:
            losses["gradient"] = gradient_matching(error.flatten(1, 2), target).mean()
        return losses


def gradient_matching(error: Tensor, target: Target) -> Tensor:
    """(B,) mean absolute gradients of an error where the truth is known, summed over four scales.

    Ranftl et al. 2020 (MiDaS, arXiv 1907.01341), equation 11: each scale is every second pixel of the one before.

    Args:
        error: (B, C, H, W).
        target: Says where it counts.
    """
    valid = target.valid[:, None]
    total = error.new_zeros(len(error))
    for scale in range(_SCALES):
        step = 2**scale
        e, v = error[..., ::step, ::step], valid[..., ::step, ::step]
        if min(e.shape[-2:]) < 2:
            break
        for dim, end in ((-2, e.shape[-2]), (-1, e.shape[-1])):
            both = v.narrow(dim, 0, end - 1) & v.narrow(dim, 1, end - 1)
            total = total + _mean(e.diff(dim=dim).abs().mean(dim=1), both[:, 0])
    return total


def standardize(x: Tensor, valid: Tensor) -> Tensor:
    """(B, H, W) without shift and scale: median and mean absolute deviation (Ranftl et al. 2020, equation 5)."""
    known = torch.where(valid, x, torch.nan).flatten(1)
    shift = known.nanmedian(dim=1).values.nan_to_num().view(-1, 1, 1)
    spread = _mean((x - shift).abs(), valid).view(-1, 1, 1)
    return (x - shift) / spread.clamp_min(_LEAST_SPREAD)


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """(B,) means of (B, h, w) where they are valid; 0 where nothing is."""
    weight = valid.to(values.dtype)
    total: Tensor = (values * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2)).clamp_min(1)
    return total
