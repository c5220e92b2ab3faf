"""What a training run is made of, as written in its YAML file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.metadata import CheckpointMetadata, TargetEncoding
from diffusion_perception_ros.tasks import check_encoding
from diffusion_perception_ros.training.schema import build


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the network, see ``DiTMoETransformer``; channels and latent size follow from codec and resolution.

    Attributes:
        pixel_unshuffle: Side of the codec's pixel blocks.
        codec: Checkpoint folder whose image codec is used instead.
        init: Checkpoint folder to start from instead of random weights; its sizes and codec have to be these.
        upcycle: Checkpoint folder of a dense DiT of this width and depth to start from, see ``initialize.upcycle``.
    """

    patch_size: int
    hidden_size: int
    num_layers: int
    num_attention_heads: int
    mlp_size: int
    num_experts: int
    num_experts_per_tok: int = 2
    num_labels: int = 1005
    stem_channels: int = 0
    stem_blocks: int = 1
    stem_levels: int = 1
    correlation_radius: int = 0
    pixel_unshuffle: int = 4
    codec: Path | None = None
    init: Path | None = None
    upcycle: Path | None = None


@dataclass(frozen=True)
class DiffusionConfig:
    """The noise schedule, always rescaled to zero terminal SNR (Lin et al. 2024, arXiv 2305.08891).

    Attributes:
        prediction_type: ``sample`` (the network predicts the clean latent) or ``v_prediction``.
        beta_schedule: A name that diffusers' ``DDIMScheduler`` knows.
        beta_start: First beta.
        beta_end: Last beta, before rescaling.
        multi_resolution_noise: Strength at t = T of noise at coarser resolutions, which fades towards t = 0; or 0.
    """

    prediction_type: str = "sample"
    beta_schedule: str = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    multi_resolution_noise: float = 0.0

    def __post_init__(self) -> None:
        if self.prediction_type not in ("sample", "v_prediction"):
            raise InputError(
                f"prediction_type {self.prediction_type!r} cannot be trained with zero terminal SNR; "
                "use sample or v_prediction."
            )

    def scheduler_config(self) -> dict[str, object]:
        """Config of diffusers' ``DDIMScheduler``."""
        return {
            "num_train_timesteps": 1000,
            "beta_schedule": self.beta_schedule,
            "beta_start": self.beta_start,
            "beta_end": self.beta_end,
            "prediction_type": self.prediction_type,
            "rescale_betas_zero_snr": True,
            "timestep_spacing": "trailing",
            "clip_sample": False,
        }


@dataclass(frozen=True)
class TaskConfig:
    """One task of the mix.

    Attributes:
        share: Of the samples of a batch.
        weight: Of its losses.
        kind: The target encoding.
        labels: Its class labels.
        image_interpolation: See ``TargetEncoding``.
        parameters: Of the encoding.
    """

    share: float
    kind: str
    labels: tuple[int, ...]
    weight: float = 1.0
    image_interpolation: str = "area"
    parameters: Mapping[str, float] = field(default_factory=dict)

    def encoding(self) -> TargetEncoding:
        """As a checkpoint declares it."""
        return TargetEncoding(self.kind, self.labels, self.image_interpolation, self.parameters)


@dataclass(frozen=True)
class DataConfig:
    """Frame pairs of generated scenes, kept on disk.

    Attributes:
        pairs: How many there are to draw from at any time.
        refresh_steps: After so many steps the oldest ``shard_size`` pairs make room for new ones; 0 for never.
        shard_size: Pairs in a file.
        first_seed: Of the scenes.
        folder: Where the files are; below the output by default. Runs can share it.
        workers: Processes that render.
        flip: Probability of a mirrored sample.
        photometric: Strength of changes in brightness, contrast and colour; 0 for none.
    """

    pairs: int
    refresh_steps: int = 0
    shard_size: int = 256
    first_seed: int = 0
    folder: Path | None = None
    workers: int = 2
    flip: float = 0.5
    photometric: float = 1.0


@dataclass(frozen=True)
class LossConfig:
    """Which losses, and on what share of each batch.

    Attributes:
        one_step_share: Share at t = T with image-level losses behind the codec's decoder; the rest has the diffusion
            loss at random t, which keeps many steps as good as one.
        zeros_share: Share of those at t = T that start from zeros instead of noise, as the sampler ``one_step`` does.
        diffusion_norm: ``l2``, or ``l1``, whose scale is that of the image-level losses.
        balance: Weight of the experts' load balancing.
    """

    one_step_share: float = 0.5
    zeros_share: float = 0.25
    diffusion_norm: str = "l2"
    balance: float = 0.01

    def __post_init__(self) -> None:
        if self.diffusion_norm not in ("l1", "l2"):
            raise InputError(f"diffusion_norm {self.diffusion_norm!r} is unknown; use l1 or l2.")


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimiser and its schedule.

    Attributes:
        name: ``adamw``, or ``muon`` for the matrices inside the network with AdamW for the rest.
        learning_rate: After the warm-up.
        final_ratio: The learning rate decays exponentially to this share of itself at the last step.
        warmup_steps: Over which it rises from zero.
        weight_decay: Decoupled, of matrices only.
        betas: Of AdamW.
        gradient_clip: Largest norm.
        accumulation: Batches for one step.
        ema: Decay per step of the averaged weights, which are what is saved.
    """

    name: str = "adamw"
    learning_rate: float = 1e-3
    final_ratio: float = 0.02
    warmup_steps: int = 200
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    gradient_clip: float = 1.0
    accumulation: int = 1
    ema: float = 0.999

    def __post_init__(self) -> None:
        if self.name not in ("adamw", "muon"):
            raise InputError(f"optimizer {self.name!r} is unknown; use adamw or muon.")
        for name in ("learning_rate", "final_ratio", "gradient_clip"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InputError(f"{name} is {getattr(self, name)}; give a number above 0.")
        if not 0 <= self.ema < 1 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError("ema and betas must be at least 0 and below 1.")


@dataclass(frozen=True)
class ReportConfig:
    """How often what is written, in steps.

    Attributes:
        log: Means of the losses.
        checkpoint: The state to resume from.
        validation: Metrics on held-out scenes; the best checkpoint is kept.
        validation_scenes: How many.
        inference_steps: Numbers of steps that are validated; the first decides which checkpoint is best.
        sheet: A picture of inputs, truth and predictions.
    """

    log: int = 50
    checkpoint: int = 500
    validation: int = 1000
    validation_scenes: int = 64
    inference_steps: tuple[int, ...] = (1, 4)
    sheet: int = 2000


@dataclass(frozen=True)
class TrainingConfig:
    """A training run.

    Attributes:
        name: Of the checkpoint.
        resolution: Side of the square image the network sees.
        steps: Of the optimiser, to which the learning rate decays.
        batch_size: Samples of each process and accumulated batch; one of flow is dx and dy.
        max_minutes: The run stops earlier, with a checkpoint, when it has trained so long in all.
        precision: ``no`` for float32, or ``bf16`` for automatic mixed precision.
        seed: Of weights, order of data and noise.
    """

    name: str
    resolution: int
    steps: int
    batch_size: int
    model: ModelConfig
    tasks: Mapping[str, TaskConfig]
    data: DataConfig
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    max_minutes: float | None = None
    precision: str = "no"
    seed: int = 0

    def __post_init__(self) -> None:
        positive = {
            "resolution": self.resolution,
            "steps": self.steps,
            "batch_size": self.batch_size,
            "data.pairs": self.data.pairs,
            "data.shard_size": self.data.shard_size,
            "data.workers": self.data.workers,
            "model.patch_size": self.model.patch_size,
            "model.pixel_unshuffle": self.model.pixel_unshuffle,
            "optimizer.accumulation": self.optimizer.accumulation,
            "report.log": self.report.log,
            "report.checkpoint": self.report.checkpoint,
            "report.validation": self.report.validation,
            "report.validation_scenes": self.report.validation_scenes,
            "report.sheet": self.report.sheet,
        }
        for name, value in positive.items():
            if value < 1:
                raise InputError(f"{name} must be at least 1, not {value}.")
        if self.precision not in ("no", "bf16"):
            raise InputError(f"precision {self.precision!r} is unknown; use no or bf16.")
        if not self.tasks or min(task.share for task in self.tasks.values()) <= 0:
            raise InputError("every task needs a share above 0, and there must be a task.")
        for name, task in self.tasks.items():
            check_encoding(name, task.encoding())
        labels = [label for task in self.tasks.values() for label in task.labels]
        if len(set(labels)) < len(labels):
            raise InputError("two tasks have one label, so nothing tells them apart; give each its own.")
        model = self.model
        if model.num_attention_heads < 1 or model.hidden_size % model.num_attention_heads:
            raise InputError(
                f"model.num_attention_heads is {model.num_attention_heads}, which does not divide "
                f"model.hidden_size, {model.hidden_size}."
            )
        if model.num_experts and not 1 <= model.num_experts_per_tok <= model.num_experts:
            raise InputError(
                f"model.num_experts_per_tok is {model.num_experts_per_tok}; use 1 to {model.num_experts}, "
                "which is model.num_experts."
            )
        steps = self.report.inference_steps
        if not steps or not all(1 <= count <= 1000 for count in steps):
            raise InputError(f"report.inference_steps is {list(steps)}; list numbers from 1 to 1000.")
        self.questions()

    def questions(self) -> dict[str, int]:
        """How often each task is asked in a batch; a question has a sample for each of the task's labels."""
        total = sum(task.share for task in self.tasks.values())
        counts = {
            name: round(self.batch_size * task.share / total / len(task.labels)) for name, task in self.tasks.items()
        }
        for name, count in counts.items():
            if count < 1:
                raise InputError(f"a batch of {self.batch_size} has no room for task {name!r}; make it larger.")
        return counts

    def metadata(self) -> CheckpointMetadata:
        """What the trained checkpoint declares."""
        return CheckpointMetadata(
            resolution=self.resolution,
            tasks={name: task.encoding() for name, task in self.tasks.items()},
            flow_reference_size=(self.resolution, self.resolution),
            sampler="ddim_trailing",
            num_inference_steps=1,
            name=self.name,
        )

    def learning_rate(self, step: int) -> float:
        """At a step, the first being 0: warm-up, then exponential decay."""
        optimizer = self.optimizer
        warmup = min(1.0, (step + 1) / (optimizer.warmup_steps + 1))
        decay = math.exp(math.log(optimizer.final_ratio) * min(1.0, step / self.steps))
        return optimizer.learning_rate * warmup * decay


def load_config(path: Path) -> TrainingConfig:
    """Read a YAML file.

    Raises:
        InputError: It cannot be read, or a setting is unknown, missing or of the wrong type.
    """
    try:
        values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text file; name a YAML file.") from None
    except YAMLError as error:
        raise InputError(f"{path}: not readable as YAML ({str(error).splitlines()[0]}).") from None
    return build(TrainingConfig, values, str(path))
