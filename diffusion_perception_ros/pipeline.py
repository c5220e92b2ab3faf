"""PerceptionPipeline: images in, typed predictions out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_perception_ros.checkpoint import check_parts, released_metadata
from diffusion_perception_ros.device import resolve_device
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model import folder as checkpoint_folder
from diffusion_perception_ros.model.codec import ImageCodec
from diffusion_perception_ros.model.compile import compile_transformer
from diffusion_perception_ros.model.metadata import CheckpointMetadata
from diffusion_perception_ros.model.official import OfficialCheckpoint
from diffusion_perception_ros.model.random import SCHEDULER_CONFIG, random_codec, random_transformer
from diffusion_perception_ros.model.transformer import DiTMoETransformer
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.queries import Query, plan_queries, render
from diffusion_perception_ros.request import Request, check_request
from diffusion_perception_ros.sampling.denoise import denoise
from diffusion_perception_ros.sampling.samplers import SAMPLERS, check_steps
from diffusion_perception_ros.stage_times import StageTimes
from diffusion_perception_ros.tasks import DecodeContext, Picture, released_encodings
from diffusion_perception_ros.tasks.geometry import Geometry

Encode = Callable[[Sequence[Picture]], Tensor]
Recall = Callable[[Sequence[Picture], Encode], Sequence[Tensor]]

_EMBEDDED = Path(__file__).with_name("weights")
_OUTPUT_FIELDS = {f.name for f in fields(PerceptionOutput)}


class PerceptionPipeline:
    """The generalist with its image codec and noise schedule. Stateless between calls.

    Args:
        transformer: The network.
        codec: The image codec.
        scheduler_config: Config of the noise schedule that the network was trained on.
        metadata: What the checkpoint declares.

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
    ) -> None:
        check_parts(transformer, codec, metadata)
        self.transformer = transformer
        self.codec = codec
        self.scheduler_config = scheduler_config
        self.metadata = metadata
        self.max_batch_size = 16

    @classmethod
    def from_official(
        cls,
        checkpoint: str | Path,
        stable_diffusion: str | Path,
        *,
        num_attention_heads: int = 16,
        num_experts_per_tok: int = 2,
        device: str | torch.device = "cpu",
        torch_dtype: torch.dtype = torch.float32,
    ) -> PerceptionPipeline:
        """Load a released checkpoint.

        Args:
            checkpoint: The ``.pt`` file.
            stable_diffusion: A ``stable-diffusion-2/`` folder with ``vae/`` and ``scheduler/``.
            num_attention_heads: Cannot be read off the weights; 16 in all released models.
            num_experts_per_tok: Likewise; 2.
            device: Where to run; ``auto`` is CUDA where there is one, else the CPU.
            torch_dtype: Type of weights and activations.

        Raises:
            InputError: One sentence that names the file, key or shape at fault.
        """
        checkpoint, stable_diffusion = Path(checkpoint), Path(stable_diffusion)
        target = resolve_device(device)
        # The small files first: their faults should not wait for gigabytes.
        scheduler_config = checkpoint_folder.load_scheduler_config(stable_diffusion)
        codec = checkpoint_folder.load_codec(stable_diffusion, torch_dtype, target)
        official = OfficialCheckpoint(
            checkpoint, num_attention_heads=num_attention_heads, num_experts_per_tok=num_experts_per_tok
        )
        metadata = released_metadata(official, codec)
        transformer = official.load_transformer(torch_dtype, target)
        return cls(transformer, codec, scheduler_config, metadata)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: str | torch.device = "cpu",
        torch_dtype: torch.dtype = torch.float32,
    ) -> PerceptionPipeline:
        """Load what ``save_pretrained`` wrote.

        Raises:
            InputError: The folder is not such a checkpoint, or a part of it cannot be read.
        """
        folder = Path(folder)
        target = resolve_device(device)
        metadata = checkpoint_folder.load_metadata(folder)
        scheduler_config = checkpoint_folder.load_scheduler_config(folder)
        codec = checkpoint_folder.load_codec(folder, torch_dtype, target)
        transformer = checkpoint_folder.load_transformer(folder, torch_dtype, target)
        return cls(transformer, codec, scheduler_config, metadata)

    @classmethod
    def embedded(
        cls, device: str | torch.device = "auto", torch_dtype: torch.dtype = torch.float32
    ) -> PerceptionPipeline:
        """The checkpoint that comes with the package: small, trained on generated scenes, a demonstration.

        ``weights/README.md`` says how it was trained and what it can do.
        """
        return cls.from_pretrained(_EMBEDDED, device, torch_dtype)

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
        """Write a checkpoint folder in diffusers' layout: safetensors and JSON."""
        checkpoint_folder.save_other_parts(Path(folder), self.codec, self.scheduler_config, self.metadata)
        checkpoint_folder.save_transformer(Path(folder), self.transformer)
        checkpoint_folder.share(Path(folder))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.transformer.pos_embed.device

    @property
    def _codec_batch_size(self) -> int:
        # On a CPU, batched convolutions are no faster than one picture after another, need the memory of all of
        # them, and round differently for each batch size.
        return 1 if self.device.type == "cpu" else self.max_batch_size

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
        self._check_sample(rgb, prompt, class_labels, latents)
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

    @torch.inference_mode()
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
        recall: Recall | None = None,
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
            recall: Called with the pictures whose latents are needed and a function that encodes pictures: who knows
                some of the latents has only the others encoded, see ``PerceptionStream``.

        Returns:
            Predictions at the input's resolution.

        Raises:
            InputError: An argument is unusable; the message names it and the remedy.
        """
        times = StageTimes(self.device)
        times.begin("encode")
        request = check_request(
            self.metadata, self.scheduler_config, image, next_image, visible_masks, tasks, num_inference_steps,
            sampler, ensemble_size, flip_members, aligner, resize, seed,
        )  # fmt: skip
        geometry = Geometry(image.shape[0], image.shape[1], self.metadata.resolution, resize)
        encodings = {task.name: self.metadata.tasks[task.name] for task in request.tasks}
        regions = {task.name: task.regions(encodings[task.name], request.visible_masks) for task in request.tasks}
        grids = {
            task.name: plan_queries(task, encodings[task.name], request, regions[task.name]) for task in request.tasks
        }
        images = self._answer([query for grid in grids.values() for query in grid], request, geometry, recall, times)

        outputs: dict[str, Any] = {}
        answers = images.split([len(grid) for grid in grids.values()])
        for task, answer in zip(request.tasks, answers, strict=True):
            encoding = encodings[task.name]
            members = answer.float().unflatten(0, (request.ensemble_size, -1, len(encoding.labels)))
            if request.flip_members:
                members = torch.stack([task.unmirror(a) if m % 2 else a for m, a in enumerate(members)])
            context = DecodeContext(
                encoding,
                geometry,
                self.metadata.flow_reference_size,
                aligner,
                request.visible_masks,
                regions[task.name],
            )
            outputs |= task.decode(members, context)
        extra = {name: outputs.pop(name) for name in outputs.keys() - _OUTPUT_FIELDS}
        return PerceptionOutput(**outputs, extra=extra, stage_ms=times.milliseconds())

    def _encode(self, pictures: Sequence[Picture], request: Request, geometry: Geometry) -> Tensor:
        """(len(pictures), C, h, w) latents."""
        rendered = torch.stack(render(pictures, request, geometry, self.device)).to(self.dtype)
        return torch.cat([self.codec.encode(batch) for batch in rendered.split(self._codec_batch_size)])

    def _answer(
        self, queries: list[Query], request: Request, geometry: Geometry, recall: Recall | None, times: StageTimes
    ) -> Tensor:
        """Decoded (len(queries), 3, R, R) images; each picture is encoded once, all tasks share a batch."""
        pictures = list(dict.fromkeys(p for query in queries for p in (query.image, query.prompt)))
        encode = partial(self._encode, request=request, geometry=geometry)
        latents = torch.stack(list(recall(pictures, encode))) if recall else encode(pictures)
        row = {picture: i for i, picture in enumerate(pictures)}
        to_device = partial(torch.tensor, device=self.device)
        image_latents = latents[to_device([row[query.image] for query in queries])]
        prompt_latents = latents[to_device([row[query.prompt] for query in queries])]
        labels = to_device([query.label for query in queries])
        initial = self._initial_latents(queries, request, image_latents)

        scheduler = request.sampler.scheduler(self.scheduler_config)
        decoded: list[Tensor] = []
        batches = (x.split(self.max_batch_size) for x in (image_latents, prompt_latents, initial, labels))
        for image, prompt, latents, class_labels in zip(*batches, strict=True):
            times.begin("denoise")
            scheduler.set_timesteps(request.num_inference_steps)  # which also forgets the batch before
            prediction = denoise(
                self.transformer,
                scheduler,
                torch.cat([image, prompt], dim=1),
                latents,
                class_labels,
                one_step=request.sampler.one_step,
            )
            times.begin("decode")
            decoded += [self.codec.decode(part) for part in prediction.split(self._codec_batch_size)]
        return torch.cat(decoded)

    def _initial_latents(self, queries: list[Query], request: Request, image_latents: Tensor) -> Tensor:
        """(len(queries), C, h, w): what the third slot starts as."""
        if request.sampler.initial_latent == "image":
            return image_latents
        if request.sampler.initial_latent == "zeros":
            return torch.zeros_like(image_latents)
        # Drawn on the host, so that a seed means the same on every device; one stream, so that the members
        # of a small ensemble are the first ones of a larger one.
        generator = torch.Generator().manual_seed(request.seed)
        shape = image_latents.shape[1:]
        noise = torch.stack([torch.randn(shape, generator=generator) for _ in range(request.ensemble_size)])
        noise = noise.to(self.device, self.dtype)
        return noise[torch.tensor([query.member for query in queries], device=self.device)]

    def _check_sample(self, rgb: Tensor, prompt: Tensor, class_labels: Tensor, latents: Tensor | None) -> None:
        resolution, channels = self.metadata.resolution, self.codec.latent_channels
        side = resolution // self.codec.downscale
        inputs = [("rgb", rgb, 3, resolution), ("prompt", prompt, 3, resolution)]
        if latents is not None:
            inputs.append(("latents", latents, channels, side))
        for name, x, depth, size in inputs:
            if not isinstance(x, Tensor) or not x.is_floating_point():
                raise InputError(f"{name} must be a floating-point tensor, images in [-1, 1].")
            if x.ndim != 4 or x.shape[1:] != (depth, size, size) or not len(x):
                raise InputError(f"{name} has shape {tuple(x.shape)}; expected (B, {depth}, {size}, {size}).")
            if not x.isfinite().all():
                raise InputError(f"{name} holds NaN or infinity; replace them.")
            if len(x) != len(rgb):
                raise InputError(f"{name} has {len(x)} samples but rgb {len(rgb)}; they need one number.")
        integers = isinstance(class_labels, Tensor) and not class_labels.is_floating_point()
        if not integers or class_labels.shape != (len(rgb),):
            raise InputError(f"class_labels must be a tensor of {len(rgb)} whole numbers, one for each sample of rgb.")
        known = {label for task in self.metadata.tasks.values() for label in task.labels}
        unknown = set(class_labels.tolist()) - known
        if unknown:
            raise InputError(f"class label {min(unknown)} is unknown; use one of {sorted(known)}.")
