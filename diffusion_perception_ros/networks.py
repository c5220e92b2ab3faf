"""A checkpoint's networks, which answer samples with pictures: encoded, denoised, decoded."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diffusion_perception_ros.constants import constant
from diffusion_perception_ros.memory import Memory
from diffusion_perception_ros.model.codec import ImageCodec
from diffusion_perception_ros.model.decoders import PerceptionDecoder
from diffusion_perception_ros.model.transformer import DiTMoETransformer
from diffusion_perception_ros.queries import (
    Noise,
    Query,
    View,
    draw_noise,
    initial_latents,
    render,
    split,
    stack_latents,
    starting_latents,
)
from diffusion_perception_ros.sampling.denoise import denoise, first_features
from diffusion_perception_ros.sampling.schedulers import scheduler_for
from diffusion_perception_ros.sampling.warm_start import warm_start
from diffusion_perception_ros.stage_times import StageTimes

Encode = Callable[[Sequence[View]], Tensor]


@dataclass(frozen=True, eq=False)
class Networks:
    """Samples in, the pictures that answer them out.

    Attributes:
        transformer: The generalist.
        codec: The image codec.
        scheduler_config: Config of the noise schedule.
        decoder: What decodes the tasks that it serves; the codec decodes the others.
        max_batch_size: Most pictures or samples that go through a network at once.
    """

    transformer: DiTMoETransformer
    codec: ImageCodec
    scheduler_config: Mapping[str, Any]
    decoder: PerceptionDecoder | None
    max_batch_size: int

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of a latent."""
        side = self.transformer.config.sample_size
        return self.codec.latent_channels, side, side

    def answer(self, queries: Sequence[Query], memory: Memory | None, times: StageTimes) -> Tensor:
        """What the samples are answered with; equal views are encoded once, samples share batches.

        Args:
            queries: The samples.
            memory: See ``PerceptionPipeline.batch``.
            times: In the stage ``encode``; goes on to ``denoise`` and ``decode``, for each batch anew.

        Returns:
            (len(queries), 3, R, R), decoded, not clipped.
        """
        like = self.transformer.pos_embed
        # First what goes to the device: a copy from the host waits for all that the device has been given to do.
        batches = [
            (batch, constant(_labels(batch), like.device, torch.long))
            for batch in split(queries, self.max_batch_size, self._reads_features)
        ]
        noise = draw_noise(queries, self.latent_shape, like.device, like.dtype)
        views = {view.key: view for query in queries for view in (query.image, query.prompt)}
        memory = memory or Memory()
        encoded = memory.latents(list(views.values()), self.encode)
        latents = dict(zip(views, encoded, strict=True))

        decoded: dict[Query, Tensor] = {}
        for batch, labels in batches:
            times.begin("denoise")
            image_latents = stack_latents([latents[query.image.key] for query in batch])
            prompt_latents = stack_latents([latents[query.prompt.key] for query in batch])
            scheduler, initial, first = self._beginning(batch, image_latents, noise)
            known = partial(_known, memory, _labels(batch))
            inputs = self.transformer, scheduler, torch.cat([image_latents, prompt_latents], dim=1), initial, labels
            if self.decoder and self._reads_features(batch[0]):
                features = first_features(*inputs, self.decoder, first=first, known=known)
                times.begin("decode")
                images = list(self.decoder(labels, features).expand(-1, 3, -1, -1))
            else:
                one_step = batch[0].request.sampler.one_step
                prediction = denoise(*inputs, one_step=one_step, first=first, known=known)
                times.begin("decode")
                images = self._decode(batch, labels, prediction)
            decoded |= zip(batch, images, strict=True)
        return torch.stack([decoded[query] for query in queries])

    def encode(self, views: Sequence[View]) -> Tensor:
        """(len(views), C, h, w) latents."""
        like = self.transformer.pos_embed
        pictures = torch.stack(render(views, like.device)).to(like.dtype)
        return torch.cat([self.codec.encode(batch) for batch in pictures.split(self._codec_batch_size)])

    def _beginning(self, batch: list[Query], image_latents: Tensor, noise: Noise) -> tuple[Any, Tensor, int]:
        """The batch's scheduler, (B, C, h, w) latents to begin with, and the index of the timestep they are at."""
        request = batch[0].request
        scheduler = scheduler_for(request.sampler, self.scheduler_config)
        initial = initial_latents(batch, image_latents, noise)
        if request.start is not None:
            return scheduler, *warm_start(scheduler, request.num_inference_steps, starting_latents(batch), initial)
        scheduler.set_timesteps(request.num_inference_steps)
        return scheduler, initial, 0

    def _decode(self, batch: list[Query], labels: Tensor, prediction: Tensor) -> list[Tensor]:
        """(3, R, R) images of a batch of latents, from the decoder where it serves the label, else from the codec."""
        decoder = None if self.decoder is None or self.decoder.layers else self.decoder
        served = [i for i, query in enumerate(batch) if decoder and query.label in decoder.labels]
        others = [i for i in range(len(batch)) if i not in served]
        images: dict[int, Tensor] = {}
        if decoder and served:
            chosen = torch.stack([labels[i] for i in served]), torch.stack([prediction[i] for i in served])
            images |= zip(served, decoder(*chosen).expand(-1, 3, -1, -1), strict=True)
        for start in range(0, len(others), self._codec_batch_size):
            part = others[start : start + self._codec_batch_size]
            images |= zip(part, self.codec.decode(torch.stack([prediction[i] for i in part])), strict=True)
        return [images[i] for i in range(len(batch))]

    def _reads_features(self, query: Query) -> bool:
        """Whether the query is decoded from features, which are those of a single step."""
        decoder = self.decoder
        if decoder is None or not decoder.layers:
            return False
        return query.label in decoder.labels and query.request.num_inference_steps == 1

    @property
    def _codec_batch_size(self) -> int:
        # On a CPU, batched convolutions are no faster than one picture after another, need the memory of all of
        # them, and round differently for each batch size.
        return 1 if self.transformer.pos_embed.device.type == "cpu" else self.max_batch_size


def _labels(batch: Sequence[Query]) -> tuple[int, ...]:
    return tuple(query.label for query in batch)


def _known(memory: Memory, labels: tuple[int, ...], timesteps: Hashable, make: Callable[[], Any]) -> Any:
    """See ``Known``: modulations of several steps, by a tuple of timesteps, or the condition of one."""
    return memory.condition((labels, timesteps), make)
