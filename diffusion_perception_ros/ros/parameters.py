"""The parameters of the node: one table of declarations, and the documents' table made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.temporal import TEMPORAL_MODES

Value = bool | int | float | str | list[str]

ALL_TASKS = "all"
EMBEDDED = "embedded"
_TYPE_NAMES = {bool: "bool", int: "integer", float: "double", str: "string", list: "string array"}


@dataclass(frozen=True)
class Declaration:
    """One parameter.

    Attributes:
        name: With dots between group and name.
        default: Its type is the parameter's.
        description: Unit and meaning, one or two sentences.
        minimum: Smallest value of a number.
        maximum: Largest value of a number.
        choices: The texts that a string may be; empty for any.
        read_only: Fixed when the node starts, because the checkpoint would have to be loaded anew.
        while_inactive: Can be set only while the node is not active, because topics would have to be joined anew.
    """

    name: str
    default: Value
    description: str
    minimum: float = 0
    maximum: float = 0
    choices: tuple[str, ...] = ()
    read_only: bool = False
    while_inactive: bool = False

    @property
    def type_name(self) -> str:
        """As ``ros2 param describe`` calls it."""
        return _TYPE_NAMES[type(self.default)]

    @property
    def has_range(self) -> bool:
        """Whether ``minimum`` and ``maximum`` apply."""
        return type(self.default) in (int, float)

    def read(self, value: Any) -> Value:
        """The value as this parameter's type; whole numbers pass for decimal ones, and ``a,b`` for a list.

        Raises:
            InputError: Wrong type, range or choice.
        """
        kind = type(self.default)
        if kind is float and type(value) is int:
            value = float(value)
        if kind is list:
            value = value.split(",") if isinstance(value, str) else value
            texts = isinstance(value, Sequence) and all(isinstance(text, str) for text in value)
            value = [text.strip() for text in value] if texts else value
            if not texts or not value or not (all(value) or value == self.default):
                raise InputError(f"{self.name} is {value!r}; it must be a list of names.")
            return list(value)
        if type(value) is not kind:
            raise InputError(f"{self.name} is {value!r}; it must be of type {self.type_name}.")
        if isinstance(value, (int, float)) and self.has_range and not self.minimum <= value <= self.maximum:
            raise InputError(f"{self.name} is {value}; it must be from {self.minimum:g} to {self.maximum:g}.")
        if self.choices and value not in self.choices:
            raise InputError(f"{self.name} is {value!r}; it must be {' or '.join(self.choices)}.")
        read: Value = value
        return read


DECLARATIONS: tuple[Declaration, ...] = (
    Declaration(
        "checkpoint",
        EMBEDDED,
        "`embedded`, a checkpoint folder, or a released `.pt` file (which needs `stable_diffusion`).",
        read_only=True,
    ),
    Declaration(
        "stable_diffusion",
        "",
        "Folder `stable-diffusion-2/` with the codec and schedule of a released `.pt` file.",
        read_only=True,
    ),
    Declaration(
        "codec",
        "",
        "Folder of a codec for the same latents instead of the checkpoint's, such as a released tiny autoencoder.",
        read_only=True,
    ),
    Declaration(
        "decoder",
        "",
        "What decodes: `full` (the codec), or a decoder in the checkpoint's folder, `latent` or `features`; empty for "
        "the checkpoint's choice.",
        read_only=True,
    ),
    Declaration(
        "device",
        "auto",
        "`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`. Only `auto` falls back, with a warning.",
        read_only=True,
    ),
    Declaration(
        "dtype",
        "float32",
        "Number format of weights and activations.",
        choices=("float32", "bfloat16", "float16"),
        read_only=True,
    ),
    Declaration(
        "compile",
        False,
        "Networks through torch.compile, on CUDA replayed as graphs. Configure takes a minute or more longer, and so "
        "does the first frame with another number of tasks or objects.",
        read_only=True,
    ),
    Declaration("tasks", [ALL_TASKS], "Of `depth`, `flow`, `amodal`, `normals`; `all` is what the checkpoint knows."),
    Declaration(
        "cameras",
        [""],
        "Several cameras, which share the weights and each batch: all topics are then below each name, as in "
        "`front/image`. Empty for one, without a name.",
        read_only=True,
    ),
    Declaration("sampler", "", "Name of the sampler; empty for the checkpoint's."),
    Declaration("num_inference_steps", 0, "Denoising steps; 0 for the checkpoint's.", maximum=1000),
    Declaration("ensemble_size", 1, "Ensemble members; 3 and more give an uncertainty.", minimum=1, maximum=64),
    Declaration(
        "budget_ms",
        0.0,
        "Time for one frame, ms; 0 for no limit. Members, then steps, then the last `tasks` are given up to keep it, "
        "so that the two above are the most that is computed.",
        maximum=10**6,
    ),
    Declaration("flip_members", False, "Every second ensemble member sees the mirrored image."),
    Declaration("seed", 0, "Of the noise, the same for every frame.", maximum=2**63 - 1),
    Declaration(
        "resize",
        "squash",
        "How images are fitted to the network's square.",
        choices=("squash", "letterbox"),
    ),
    Declaration(
        "pairing",
        "consecutive",
        "Pairs for flow: consecutive frames of `image`, or `image` and `image_next` (`topics`).",
        choices=("consecutive", "topics"),
        while_inactive=True,
    ),
    Declaration(
        "flow_pair",
        "adjacent",
        "With `pairing: consecutive`: flow from the frame just before the newest, or from the last processed one.",
        choices=("adjacent", "last_processed"),
    ),
    Declaration("max_frame_gap", 1.0, "Frames further apart make no pair, s; 0 for no limit.", maximum=3600),
    Declaration(
        "sync_slop",
        0.0,
        "With `pairing: topics`: stamps may differ by less than this, s; 0 for equal stamps.",
        maximum=3600,
        while_inactive=True,
    ),
    Declaration(
        "sync_queue_size",
        10,
        "With `pairing: topics`: messages of each topic that wait for their partner.",
        minimum=1,
        maximum=1000,
        while_inactive=True,
    ),
    Declaration(
        "image_transport",
        "raw",
        "`compressed` subscribes to `image/compressed` (JPEG or PNG).",
        choices=("raw", "compressed"),
        while_inactive=True,
    ),
    Declaration(
        "temporal",
        "off",
        "Depth continues the frame before, so that it flickers less; flow is then computed even where nobody wants it.",
        choices=TEMPORAL_MODES,
    ),
    Declaration("max_rate", 0.0, "Results per second, at most; 0 for no limit.", maximum=1000),
    Declaration(
        "max_input_age",
        0.0,
        "Frames that are older when their turn comes are dropped, s; 0 for no limit.",
        maximum=3600,
    ),
    Declaration("lazy", True, "Compute only what somebody subscribes to."),
    Declaration(
        "depth.scale_source",
        "none",
        "Where metres come from: `depth_reference`, or a checkpoint that predicts metres.",
        choices=("none", "reference", "checkpoint"),
    ),
    Declaration("depth.max_reference_age", 0.5, "Between a frame and its reference, s.", maximum=3600),
    Declaration("depth.min_reference_points", 50, "Known pixels a reference needs.", minimum=10, maximum=10**6),
    Declaration(
        "depth.inlier_tolerance",
        0.15,
        "A reference pixel agrees if depth is off by at most this share.",
        minimum=0.001,
        maximum=1,
    ),
    Declaration("depth.min_inlier_ratio", 0.5, "Share of the reference that has to agree.", minimum=0.05, maximum=1),
    Declaration("depth.smoothing", 0.5, "Time constant of scale and shift, s; 0 for none.", maximum=60),
    Declaration(
        "amodal.threshold",
        0.0,
        "Brightness of 255 from which a completed object's background counts as white; 0 for the checkpoint's.",
        maximum=255,
    ),
    Declaration(
        "amodal.max_instances",
        16,
        "Instances of one frame; the smallest beyond that are left out and counted.",
        minimum=1,
        maximum=1000,
    ),
    Declaration("amodal.history", 30, "Frames that wait for their `visible_masks`.", minimum=1, maximum=1000),
    Declaration("amodal.appearance", False, "Publish the completed objects' colours."),
    Declaration(
        "color.flow_range",
        0.0,
        "Displacement drawn in full colour, px; 0 for 5 % of the image diagonal, at least 8.",
        maximum=10000,
    ),
    Declaration("diagnostics.period", 1.0, "Between two messages on `/diagnostics`, s.", minimum=0.05, maximum=60),
    Declaration(
        "diagnostics.missing_input_timeout",
        5.0,
        "An input without data for this long is warned about, s.",
        minimum=0.1,
        maximum=3600,
    ),
    Declaration(
        "diagnostics.min_rate", 0.0, "Results per second below which diagnostics warn; 0 for never.", maximum=1000
    ),
)

BY_NAME: Mapping[str, Declaration] = {declaration.name: declaration for declaration in DECLARATIONS}


def markdown_table() -> str:
    """The declarations for the documentation, one row each."""
    rows = ["| Parameter | Type | Default | Range | Meaning |", "|---|---|---|---|---|"]
    for d in DECLARATIONS:
        text = f"[{', '.join(d.default)}]" if isinstance(d.default, list) else str(d.default)
        text = text.lower() if isinstance(d.default, bool) else text
        allowed = ", ".join(f"`{choice}`" for choice in d.choices)
        if d.has_range:
            largest = "2^63 - 1" if d.maximum == 2**63 - 1 else f"{d.maximum:.9g}"
            allowed = f"{d.minimum:g} to {largest}"
        when = " *Read-only.*" if d.read_only else " *Only while not active.*" if d.while_inactive else ""
        shown = f"`{text}`" if text else "empty"
        rows.append(f"| `{d.name}` | {d.type_name} | {shown} | {allowed} | {d.description}{when} |")
    return "\n".join(rows) + "\n"
