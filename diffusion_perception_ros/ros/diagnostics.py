"""What /diagnostics says: the model, and of each camera the inputs, the outputs and the metric scale."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from diffusion_perception_ros.conversions import MetricState
from diffusion_perception_ros.ros.camera import Camera
from diffusion_perception_ros.ros.inputs import Inputs
from diffusion_perception_ros.ros.settings import NodeSettings

_METRIC_MESSAGES = {
    MetricState.OFF: "off",
    MetricState.TRUSTED: "anchored by the reference",
    MetricState.NO_REFERENCE: "withheld: no reference has arrived",
    MetricState.STALE: "withheld: the reference is too old",
    MetricState.POOR_FIT: "withheld: the reference does not agree with the prediction",
}


def status(name: str, level: bytes, message: str, values: Mapping[str, Any], hardware: str = "") -> DiagnosticStatus:
    """One diagnostic_msgs/DiagnosticStatus; values become text."""
    pairs = [
        KeyValue(key=key, value=f"{value:.2f}" if isinstance(value, float) else str(value))
        for key, value in values.items()
    ]
    return DiagnosticStatus(level=level, name=name, message=message, hardware_id=hardware, values=pairs)


def array(stamp: Any, statuses: list[DiagnosticStatus]) -> DiagnosticArray:
    """One diagnostic_msgs/DiagnosticArray, stamped with the time of the report."""
    message = DiagnosticArray()
    message.header.stamp = stamp
    message.status = statuses
    return message


def input_status(name: str, inputs: Inputs, missing: list[str]) -> DiagnosticStatus:
    """Which topics are subscribed, and which are silent."""
    values = {source.name: f"{source.topic} ({source.received} messages)" for source in inputs.all}
    level = DiagnosticStatus.WARN if missing else DiagnosticStatus.OK
    return status(f"{name}: inputs", level, " ".join(missing) or "receiving", values)


def output_status(name: str, camera: Camera, settings: NodeSettings) -> DiagnosticStatus:
    """How many results per second, how late they are, and what was dropped why."""
    recent = list(camera.recent)
    intake = camera.inputs.intake
    span = time.monotonic() - recent[0].when if recent else 0.0
    rate = len(recent) / span if span > 0 else 0.0
    values: dict[str, Any] = {
        "frames received": intake.received,
        "frames processed": camera.processed,
        "results per second": rate,
    }
    if recent:
        values["processing time (ms)"] = sum(done.total_ms for done in recent) / len(recent)
        values["input age (ms)"] = recent[-1].input_age_ms
    values |= {f"dropped: {reason}": count for reason, count in sorted(intake.drops.items())}
    slow = settings.min_rate > 0 and rate < settings.min_rate
    message = f"{rate:.1f} results per second" + (f", fewer than {settings.min_rate:g}" if slow else "")
    return status(f"{name}: outputs", DiagnosticStatus.WARN if slow else DiagnosticStatus.OK, message, values)


def metric_status(name: str, camera: Camera) -> DiagnosticStatus:
    """Whether depth is anchored to metres, and if not, why."""
    metric = camera.metric
    withheld = metric.state not in (MetricState.OFF, MetricState.TRUSTED)
    values: dict[str, Any] = {"reference age (s)": metric.reference_age}
    if metric.fit is not None:
        values |= {"scale": metric.fit.scale, "shift": metric.fit.shift, "inlier ratio": metric.fit.inlier_ratio}
    level = DiagnosticStatus.WARN if withheld else DiagnosticStatus.OK
    return status(f"{name}: metric depth", level, _METRIC_MESSAGES[metric.state], values)
