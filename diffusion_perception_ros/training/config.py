"""What a training run of any stage is made of, as written in its YAML file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.metadata import CheckpointMetadata, TargetEncoding
from diffusion_perception_ros.tasks import check_encoding, find_task
from diffusion_perception_ros.training.data_config import DataConfig, assign_sources


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


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What runs of all stages have in common.

    Attributes:
        name: Of the checkpoint.
        resolution: Side of the square image the network sees.
        steps: Of the optimiser, to which the learning rate decays.
        batch_size: Samples of each process and accumulated batch; one of flow is dx and dy.
        max_minutes: The run stops earlier, with a checkpoint, when it has trained so long in all.
        precision: ``no`` for float32, or ``bf16`` for automatic mixed precision.
        seed: Of weights, order of data and noise.
        flow_reference_size: (width, height) in whose pixels flow is measured, see ``CheckpointMetadata``; by default
            the square that the network sees.
    """

    name: str
    resolution: int
    steps: int
    batch_size: int
    tasks: Mapping[str, TaskConfig]
    data: DataConfig
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    max_minutes: float | None = None
    precision: str = "no"
    seed: int = 0
    flow_reference_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        positive = {
            "resolution": self.resolution,
            "steps": self.steps,
            "batch_size": self.batch_size,
            "data.shard_size": self.data.shard_size,
            "data.workers": self.data.workers,
            "optimizer.accumulation": self.optimizer.accumulation,
            "report.log": self.report.log,
            "report.checkpoint": self.report.checkpoint,
            "report.validation": self.report.validation,
            "report.validation_scenes": self.report.validation_scenes,
            "report.sheet": self.report.sheet,
        }
        if any(source.kind == "scenes" for source in self.data.sources):
            positive["data.pairs"] = self.data.pairs
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
        self.sources()
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

    def truths(self) -> dict[str, frozenset[str]]:
        """The fields of ``Truth`` that each task's targets are made from.

        Raises:
            InputError: A task has an encoding that nothing can be trained for.
        """
        truths = {}
        for name, task in self.tasks.items():
            fields = find_task(name).learned_from.get(task.kind)
            if fields is None:
                raise InputError(f"task {name!r} has no training targets of the kind {task.kind!r}.")
            truths[name] = frozenset(fields)
        return truths

    def needs(self, field: str) -> bool:
        """Whether a task learns from this field of ``Truth``."""
        return any(field in fields for fields in self.truths().values())

    def sources(self) -> dict[str, tuple[int, ...]]:
        """Which of ``data.sources`` each task learns from, by number."""
        return assign_sources(self.data.sources, self.truths())

    def metadata(self) -> CheckpointMetadata:
        """What the trained checkpoint declares."""
        return CheckpointMetadata(
            resolution=self.resolution,
            tasks={name: task.encoding() for name, task in self.tasks.items()},
            flow_reference_size=self.flow_reference_size or (self.resolution, self.resolution),
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
