"""PerceptionPipeline: images in, typed predictions out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_perception_ros.checkpoint import check_decoder, check_parts, released_metadata
from diffusion_perception_ros.device import resolve_device
from diffusion_perception_ros.model import folder as checkpoint_folder
from diffusion_perception_ros.model.codec import ImageCodec
from diffusion_perception_ros.model.compile import compile_transformer
from diffusion_perception_ros.model.decoders import FULL, PerceptionDecoder, load_decoder, save_decoder
from diffusion_perception_ros.model.metadata import CheckpointMetadata
from diffusion_perception_ros.model.official import OfficialCheckpoint
from diffusion_perception_ros.model.random import SCHEDULER_CONFIG, random_codec, random_transformer
from diffusion_perception_ros.model.transformer import DiTMoETransformer
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.queries import (
    Answers,
    Plan,
    Query,
    View,
    draw_noise,
    initial_latents,
    render,
    split,
    starting_latents,
)
from diffusion_perception_ros.request import Request, check_request, check_sample
from diffusion_perception_ros.sampling.denoise import denoise, first_features
from diffusion_perception_ros.sampling.samplers import SAMPLERS, check_steps
from diffusion_perception_ros.sampling.warm_start import warm_start
from diffusion_perception_ros.stage_times import StageTimes
from diffusion_perception_ros.tasks import released_encodings

Encode = Callable[[Sequence[View]], Tensor]
Recall = Callable[[Sequence[View], Encode], Sequence[Tensor]]
Refine = Callable[[Sequence[Plan], list[Answers]], list[Answers]]

EMBEDDED = Path(__file__).with_name("weights")


class PerceptionPipeline:
    """The generalist with its image codec and noise schedule. Stateless between calls.

    Args:
        transformer: The network.
        codec: The image codec.
        scheduler_config: Config of the noise schedule that the network was trained on.
        metadata: What the checkpoint declares.
        decoder: What decodes the tasks that it serves; the codec decodes the others. One that reads features answers
            requests of a single step; those of more steps go through the codec.

    Attributes:
        max_batch_size: Most pictures or samples that go through a network at once; it bounds memory.

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
        self.max_batch_size = 16

    @classmethod
    def from_official(
        cls,
        checkpoint: str | Path,
        stable_diffusion: str | Path,
        *,
        num_attention_heads: int = 16,
        num_experts_per_tok: int = 2,
        codec: str | Path | None = None,
        device: str | torch.device = "cpu",
        torch_dtype: torch.dtype = torch.float32,
    ) -> PerceptionPipeline:
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
        cls,
        folder: str | Path,
        device: str | torch.device = "cpu",
        torch_dtype: torch.dtype = torch.float32,
        *,
        codec: str | Path | None = None,
        decoder: str | None = None,
    ) -> PerceptionPipeline:
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
    def embedded(
        cls,
        device: str | torch.device = "auto",
        torch_dtype: torch.dtype = torch.float32,
        *,
        codec: str | Path | None = None,
        decoder: str | None = None,
    ) -> PerceptionPipeline:
        """The checkpoint that comes with the package: small, trained on generated scenes, a demonstration.

        ``weights/README.md`` says how it was trained and what it can do.
        """
        return cls.from_pretrained(EMBEDDED, device, torch_dtype, codec=codec, decoder=decoder)

    @classmethod
    def random(
        cls,
        resolution: int = 128,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
        torch_dtype: torch.dtype = torch.float32,
        codec: ImageCodec | None = None,
        scheduler_config: Mapping[str, Any] = SCHEDULER_CONFIG,
        **config: Any,
    ) -> PerceptionPipeline:
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

    def compile(self, batch_sizes: Sequence[int] = (1,)) -> None:
        """Compile the transformer for this device, in place, with CUDA graphs where there is CUDA.

        Takes a minute or more for each number of samples; another than these is compiled when it first comes. Where
        that fails, a warning says so in one sentence and the transformer stays as it is.

        Args:
            batch_sizes: Numbers of samples to compile for now, such as one for depth, flow and an object each.
        """
        compile_transformer(self.transformer, batch_sizes)

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

    def decoding(self, num_inference_steps: int) -> str:
        """What decodes the answers to a request of so many steps: the codec's name, or also the decoder's."""
        decoder = self.decoder
        if decoder is None or (decoder.layers and num_inference_steps > 1):
            return self.codec.name
        return f"{self.codec.name}, {decoder.name} decoder"

    @property
    def _codec_batch_size(self) -> int:
        # On a CPU, batched convolutions are no faster than one picture after another, need the memory of all of
        # them, and round differently for each batch size.
        return 1 if self.device.type == "cpu" else self.max_batch_size

    @property
    def _latent_shape(self) -> tuple[int, int, int]:
        side = self.metadata.resolution // self.codec.downscale
        return self.codec.latent_channels, side, side

    @property
    def dtype(self) -> torch.dtype:
        """Type of weights and activations."""
        return self.transformer.pos_embed.dtype

    @torch.no_grad()
    def sample(
        self,
        rgb: Tensor,
        prompt: Tensor,
        class_labels: Tensor,
        num_inference_steps: int,
        latents: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """One prediction per sample, computed exactly as the released code does.

        DDIM with the checkpoint's own scheduler config, whatever that gives at few steps: see the samplers of
        ``__call__`` for those that are made for few.

        Args:
            rgb: (B, 3, H, W) images in [-1, 1], of the checkpoint's resolution.
            prompt: (B, 3, H, W), by task: valid mask as 0 and 1, visible mask or next image in [-1, 1].
            class_labels: (B,) integer labels; a batch may mix tasks.
            num_inference_steps: Steps.
            latents: (B, C, h, w) initial noise, of the shape of a latent; drawn with ``generator`` where it is None.
            generator: Source of the noise.

        Returns:
            (B, 3, H, W), decoded, not clipped.

        Raises:
            InputError: Shapes or labels do not fit the checkpoint.
        """
        check_sample(self.metadata, self._latent_shape, rgb, prompt, class_labels, latents)
        sampler = SAMPLERS["ddim"]
        check_steps(sampler, self.scheduler_config, num_inference_steps)
        rgb, prompt = (x.to(self.device, self.dtype) for x in (rgb, prompt))
        image_latents, prompt_latents = self.codec.encode(rgb), self.codec.encode(prompt)
        if latents is None:
            source = generator.device if generator is not None else self.device
            latents = torch.randn(image_latents.shape, generator=generator, device=source, dtype=torch.float32)
        scheduler = sampler.scheduler(self.scheduler_config)
        scheduler.set_timesteps(num_inference_steps)
        prediction = denoise(
            self.transformer,
            scheduler,
            torch.cat([image_latents, prompt_latents], dim=1),
            latents.to(self.device, self.dtype),
            class_labels.to(self.device),
        )
        return self.codec.decode(prediction)

    def request(
        self,
        image: NDArray[np.uint8],
        next_image: NDArray[np.uint8] | None = None,
        visible_masks: NDArray[np.integer] | None = None,
        **arguments: Any,
    ) -> Request:
        """The arguments of one call, checked, for ``batch``: those of ``__call__``.

        Raises:
            InputError: An argument is unusable; the message names it and the remedy.
        """
        return check_request(self.metadata, self.scheduler_config, image, next_image, visible_masks, **arguments)

    def __call__(
        self,
        image: NDArray[np.uint8],
        next_image: NDArray[np.uint8] | None = None,
        visible_masks: NDArray[np.integer] | None = None,
        *,
        tasks: Sequence[str] | None = None,
        num_inference_steps: int | None = None,
        sampler: str | None = None,
        ensemble_size: int = 1,
        flip_members: bool = False,
        aligner: str = "standardize",
        resize: str = "squash",
        seed: int = 0,
    ) -> PerceptionOutput:
        """See depth, motion and hidden shape in one image, its successor and its visible masks.

        Args:
            image: (H, W, 3) uint8 RGB.
            next_image: (H, W, 3) uint8 RGB, the frame after ``image``; needed for flow.
            visible_masks: (H, W) integer label image, 0 background, k the visible pixels of object k; needed
                for amodal.
            tasks: Names of tasks; by default all that the arguments allow.
            num_inference_steps: Steps; by default the checkpoint's.
            sampler: ``ddim``, ``ddim_trailing``, ``dpm_solver``, ``one_step`` or ``one_step_genpercept``; by
                default the checkpoint's.
            ensemble_size: Members, which differ in their noise. Three and more give an uncertainty.
            flip_members: Every second member sees its pictures mirrored.
            aligner: How depth members are aligned, ``standardize`` or ``released``.
            resize: ``squash`` or ``letterbox``.
            seed: Of the noise. Member m's noise is the same for every task and frame, which keeps noise from
                flickering over a video.

        Returns:
            Predictions at the input's resolution.

        Raises:
            InputError: An argument is unusable; the message names it and the remedy.
        """
        request = self.request(
            image, next_image, visible_masks, tasks=tasks, num_inference_steps=num_inference_steps, sampler=sampler,
            ensemble_size=ensemble_size, flip_members=flip_members, aligner=aligner, resize=resize, seed=seed,
        )  # fmt: skip
        return self.batch([request])[0]

    @torch.inference_mode()
    def batch(
        self, requests: Sequence[Request], recall: Recall | None = None, refine: Refine | None = None
    ) -> list[PerceptionOutput]:
        """Answer several requests at once: frames of several cameras, or several moments of one recording.

        What is equal in two of them is encoded once, and all their samples and decodings share batches, which on an
        accelerator take less time than one after the other. Each has its own size, tasks, masks and seed, and its
        answer is the one that it would have got alone, but for rounding.

        Args:
            requests: From ``request``.
            recall: Called with the views whose latents are needed, each once, and a function that encodes views: who
                knows some of the latents has only the others encoded, see ``PerceptionStream``.
            refine: Called with the plans of the requests and the network's answers, from which it may make others.

        Returns:
            A prediction for each request; the ``stage_ms`` of each are the whole batch's.
        """
        if not requests:
            return []
        times = StageTimes(self.device)
        times.begin("encode")
        plans = [Plan(self.metadata, request) for request in requests]
        images = self._answer([query for plan in plans for query in plan.queries], recall, times)
        parts = images.split([len(plan.queries) for plan in plans])
        answers = [plan.answers(part) for plan, part in zip(plans, parts, strict=True)]
        answers = refine(plans, answers) if refine else answers
        outputs = [plan.decode(answer) for plan, answer in zip(plans, answers, strict=True)]
        stage_ms = times.milliseconds()
        return [replace(output, stage_ms=stage_ms) for output in outputs]

    def _answer(self, queries: list[Query], recall: Recall | None, times: StageTimes) -> Tensor:
        """Decoded (len(queries), 3, R, R) images; equal views are encoded once, samples share batches."""
        # First what goes to the device: a copy from the host waits for all that the device has been given to do.
        batches = [
            (batch, torch.tensor([query.label for query in batch], device=self.device))
            for batch in split(queries, self.max_batch_size, self._reads_features)
        ]
        noise = draw_noise(queries, self._latent_shape, self.device, self.dtype)
        views = {view.key: view for query in queries for view in (query.image, query.prompt)}
        encoded = recall(list(views.values()), self._encode) if recall else self._encode(list(views.values()))
        latents = dict(zip(views, encoded, strict=True))

        decoded: dict[Query, Tensor] = {}
        for batch, labels in batches:
            times.begin("denoise")
            image_latents = torch.stack([latents[query.image.key] for query in batch])
            prompt_latents = torch.stack([latents[query.prompt.key] for query in batch])
            request = batch[0].request
            scheduler = request.sampler.scheduler(self.scheduler_config)
            initial, first = initial_latents(batch, image_latents, noise), 0
            if request.start is None:
                scheduler.set_timesteps(request.num_inference_steps)
            else:
                starts = starting_latents(batch)
                initial, first = warm_start(scheduler, request.num_inference_steps, starts, initial)
            inputs = self.transformer, scheduler, torch.cat([image_latents, prompt_latents], dim=1), initial, labels
            if self.decoder and self._reads_features(batch[0]):
                features = first_features(*inputs, self.decoder, first=first)
                times.begin("decode")
                images = list(self.decoder(labels, features).expand(-1, 3, -1, -1))
            else:
                prediction = denoise(*inputs, one_step=request.sampler.one_step, first=first)
                times.begin("decode")
                images = self._decode(batch, labels, prediction)
            decoded |= zip(batch, images, strict=True)
        return torch.stack([decoded[query] for query in queries])

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

    def _encode(self, views: Sequence[View]) -> Tensor:
        """(len(views), C, h, w) latents."""
        pictures = torch.stack(render(views, self.device)).to(self.dtype)
        return torch.cat([self.codec.encode(batch) for batch in pictures.split(self._codec_batch_size)])
