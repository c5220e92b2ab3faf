"""The values of the node's parameters, checked each and together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.metric.anchor import AnchorSettings
from diffusion_perception_ros.ros.parameters import ALL_TASKS, BY_NAME
from diffusion_perception_ros.sampling.settings import SamplingSettings

_CAMERA = re.compile(r"[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)


@dataclass(frozen=True)
class NodeSettings:
    """A set of parameter values that fit each other; fields are as the parameters, with None for no limit."""

    checkpoint: str
    stable_diffusion: str
    codec: str | None
    decoder: str | None
    device: str
    dtype: str
    compile: bool
    tasks: tuple[str, ...] | None
    cameras: tuple[str, ...]
    sampling: SamplingSettings
    budget_ms: float | None
    pairing: str
    flow_pair: str
    max_frame_gap: float | None
    sync_slop: float
    sync_queue_size: int
    image_transport: str
    temporal: str
    max_rate: float | None
    max_input_age: float | None
    lazy: bool
    scale_source: str
    anchor: AnchorSettings
    amodal_threshold: float | None
    max_instances: int
    history: int
    with_appearance: bool
    flow_range: float | None
    diagnostics_period: float
    missing_input_timeout: float
    min_rate: float


def settings_from(values: Mapping[str, Any]) -> NodeSettings:
    """Check a set of values, each and together.

    Args:
        values: A value for every declaration, by name.

    Raises:
        InputError: One sentence about the first value or combination that is unusable.
    """
    read: dict[str, Any] = {name: declaration.read(values[name]) for name, declaration in BY_NAME.items()}
    tasks = tuple(dict.fromkeys(read["tasks"]))
    if ALL_TASKS in tasks and len(tasks) > 1:
        raise InputError(f"tasks is {list(tasks)}; it must be either ['{ALL_TASKS}'] or the names of tasks.")
    released = read["checkpoint"].endswith((".pt", ".pth"))
    if released and not read["stable_diffusion"]:
        raise InputError(
            f"checkpoint {read['checkpoint']} is a released file, which needs its codec; "
            "set stable_diffusion to the folder stable-diffusion-2."
        )
    if read["stable_diffusion"] and not released:
        raise InputError(
            f"stable_diffusion is set, but checkpoint {read['checkpoint']} brings its own codec; leave it empty."
        )
    if released and read["decoder"]:
        raise InputError(
            f"checkpoint {read['checkpoint']} is a released file, which has no decoder {read['decoder']!r}; "
            "leave it empty."
        )
    if read["compile"] and read["budget_ms"]:
        raise InputError(
            "compile needs batches of few sizes, but budget_ms chooses among many; "
            "set compile to false or budget_ms to 0."
        )
    if read["pairing"] == "topics" and read["flow_pair"] == "last_processed":
        raise InputError(
            "flow_pair 'last_processed' needs pairing 'consecutive'; with pairing 'topics' use 'adjacent'."
        )
    return NodeSettings(
        checkpoint=read["checkpoint"],
        stable_diffusion=read["stable_diffusion"],
        codec=read["codec"] or None,
        decoder=read["decoder"] or None,
        device=read["device"],
        dtype=read["dtype"],
        compile=read["compile"],
        tasks=None if tasks == (ALL_TASKS,) else tasks,
        cameras=_cameras(read["cameras"]),
        sampling=SamplingSettings(
            num_inference_steps=read["num_inference_steps"] or None,
            sampler=read["sampler"] or None,
            ensemble_size=read["ensemble_size"],
            flip_members=read["flip_members"],
            resize=read["resize"],
            seed=read["seed"],
        ),
        budget_ms=read["budget_ms"] or None,
        pairing=read["pairing"],
        flow_pair=read["flow_pair"],
        max_frame_gap=read["max_frame_gap"] or None,
        sync_slop=read["sync_slop"],
        sync_queue_size=read["sync_queue_size"],
        image_transport=read["image_transport"],
        temporal=read["temporal"],
        max_rate=read["max_rate"] or None,
        max_input_age=read["max_input_age"] or None,
        lazy=read["lazy"],
        scale_source=read["depth.scale_source"],
        anchor=AnchorSettings(
            max_reference_age=read["depth.max_reference_age"],
            min_reference_points=read["depth.min_reference_points"],
            inlier_tolerance=read["depth.inlier_tolerance"],
            min_inlier_ratio=read["depth.min_inlier_ratio"],
            smoothing=read["depth.smoothing"],
        ),
        amodal_threshold=read["amodal.threshold"] or None,
        max_instances=read["amodal.max_instances"],
        history=read["amodal.history"],
        with_appearance=read["amodal.appearance"],
        flow_range=read["color.flow_range"] or None,
        diagnostics_period=read["diagnostics.period"],
        missing_input_timeout=read["diagnostics.missing_input_timeout"],
        min_rate=read["diagnostics.min_rate"],
    )


def _cameras(names: list[str]) -> tuple[str, ...]:
    for name in names:
        if names != [""] and not _CAMERA.fullmatch(name):
            raise InputError(f"cameras has {name!r}; use letters, digits and underscores, as in topic names.")
        if names.count(name) > 1:
            raise InputError(f"cameras has {name!r} twice; name each camera once.")
    return tuple(names)
