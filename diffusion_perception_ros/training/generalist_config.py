"""What stage 2, the training of the generalist, is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.training.config import TrainingConfig

# Rows of the released generalist's label table.
_RELEASED_LABELS = 1005


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the network, see ``DiTMoETransformer``; channels and latent size follow from codec and resolution.

    Attributes:
        num_labels: Rows of the label table; by default those of the released generalist, or as many as the tasks need.
        pixel_unshuffle: Side of the codec's pixel blocks.
        codec: Checkpoint folder whose image codec is used instead.
        init: Checkpoint folder to start from instead of random weights; its sizes and codec have to be these, its
            resolution not, and it may have fewer blocks.
        frozen: Parts of the network that stay as they are, such as ``stem``. What only they depend on costs no backward
            pass; the stem depends on ``t_embedder`` and ``y_embedder``.
        upcycle: Checkpoint folder of a dense DiT of this width and depth to start from, see ``initialize.upcycle``.
    """

    patch_size: int
    hidden_size: int
    num_layers: int
    num_attention_heads: int
    mlp_size: int
    num_experts: int
    num_experts_per_tok: int = 2
    num_labels: int | None = None
    stem_channels: int = 0
    stem_blocks: int = 1
    stem_levels: int = 1
    correlation_radius: int = 0
    lookup_radius: int = 0
    pixel_unshuffle: int = 4
    codec: Path | None = None
    init: Path | None = None
    frozen: tuple[str, ...] = ()
    upcycle: Path | None = None

    def __post_init__(self) -> None:
        if self.init and self.upcycle:
            raise InputError("init and upcycle both say where to start; set one of them to null.")


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
class LossConfig:
    """Which losses, and on what share of each batch.

    Attributes:
        one_step_share: Share at t = T with image-level losses behind the codec's decoder; the rest has the diffusion
            loss at random t, which keeps many steps as good as one.
        rollout_share: Share at random t with image-level losses that goes on from the network's own answer at t = T, as
            a sampler of several steps does, so that each step mends the one before instead of trusting it.
        zeros_share: Share of those at t = T that start from zeros instead of noise, as the sampler ``one_step`` does.
        diffusion_norm: ``l2``, or ``l1``, whose scale is that of the image-level losses.
        balance: Weight of the experts' load balancing.
        lookup: Weight of how far off a lookup looks, in pixels of the latent.
    """

    one_step_share: float = 0.5
    rollout_share: float = 0.0
    zeros_share: float = 0.25
    diffusion_norm: str = "l2"
    balance: float = 0.01
    lookup: float = 0.1

    def __post_init__(self) -> None:
        for name in ("one_step_share", "rollout_share", "zeros_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; give a share from 0 to 1.")
        if self.one_step_share + self.rollout_share > 1:
            raise InputError("one_step_share and rollout_share are more than the whole batch; make one smaller.")
        if self.diffusion_norm not in ("l1", "l2"):
            raise InputError(f"diffusion_norm {self.diffusion_norm!r} is unknown; use l1 or l2.")


@dataclass(frozen=True, kw_only=True)
class GeneralistConfig(TrainingConfig):
    """A run that trains the transformer behind an image codec.

    Attributes:
        model: The network and where it starts.
        diffusion: The noise.
        loss: Which losses.
    """

    model: ModelConfig
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        model = self.model
        for name in ("patch_size", "pixel_unshuffle"):
            if getattr(model, name) < 1:
                raise InputError(f"model.{name} must be at least 1, not {getattr(model, name)}.")
        labels = [label for task in self.tasks.values() for label in task.labels]
        if min(labels) < 0 or max(labels) >= self.num_labels:
            raise InputError(
                f"the labels {sorted(labels)} need rows 0 to {self.num_labels - 1}; raise model.num_labels."
            )
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

    @property
    def num_labels(self) -> int:
        """Rows of the network's label table."""
        needed = 1 + max(label for task in self.tasks.values() for label in task.labels)
        return self.model.num_labels or max(_RELEASED_LABELS, needed)
