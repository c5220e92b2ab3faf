"""The checkpoint behind the node: loaded, checked, called and freed; the only place that calls the pipeline."""

from __future__ import annotations

import gc
import math
import threading
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffusion_perception_ros.budget.plan import Plan
from diffusion_perception_ros.budget.stream import BudgetedStream
from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.metric.anchor import MetricAnchor
from diffusion_perception_ros.metric.fit import DepthSpace
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.queries import Plan as Queries
from diffusion_perception_ros.request import Request, check_request
from diffusion_perception_ros.ros.parameters import EMBEDDED
from diffusion_perception_ros.ros.settings import NodeSettings
from diffusion_perception_ros.stream import PerceptionStream

# Of a camera's size, since a budget's times are measured with it, and noise, so that all experts have something to do.
_IMAGE, _NEXT_IMAGE = np.random.default_rng(0).integers(0, 256, (2, 480, 640, 3), np.uint8)
_OBJECT = np.pad(np.ones((240, 320), np.uint8), ((120, 120), (160, 160)))


class CancelledError(Exception):
    """The prediction was given up because the node stops."""


class Model:
    """A pipeline that can be given up in the middle of a prediction.

    Args:
        pipe: The pipeline.
        compiled: Whether its networks are, or will be, so that it can be given up between steps alone.

    Attributes:
        plan: What the last prediction was made of; None where there was nothing to predict.
    """

    def __init__(self, pipe: PerceptionPipeline, compiled: bool = False) -> None:
        self.pipe = pipe
        self.plan: Plan | None = None
        self._stream = PerceptionStream(pipe)
        self._budgeted = BudgetedStream(self._stream)
        self._settings: NodeSettings | None = None
        self._metadata = pipe.metadata
        self._cancelled = threading.Event()
        for module in [pipe.transformer] if compiled else _modules(pipe):
            module.register_forward_pre_hook(self._check_cancelled)

    @classmethod
    def load(cls, settings: NodeSettings) -> Model:
        """Load the checkpoint that the settings name.

        Raises:
            InputError: It cannot be read, or the device is not there.
        """
        options: dict[str, Any] = {"device": settings.device, "torch_dtype": getattr(torch, settings.dtype)}
        options["codec"] = Path(settings.codec).expanduser() if settings.codec else None
        checkpoint = Path(settings.checkpoint).expanduser()
        if settings.stable_diffusion:
            folder = Path(settings.stable_diffusion).expanduser()
            return cls(PerceptionPipeline.from_official(checkpoint, folder, **options), settings.compile)
        options["decoder"] = settings.decoder
        if settings.checkpoint == EMBEDDED:
            return cls(PerceptionPipeline.embedded(**options), settings.compile)
        return cls(PerceptionPipeline.from_pretrained(checkpoint, **options), settings.compile)

    def tasks(self, settings: NodeSettings) -> tuple[str, ...]:
        """The tasks that the settings ask for, or all that the checkpoint knows."""
        return settings.tasks or tuple(self._metadata.tasks)

    def check(self, settings: NodeSettings) -> Request:
        """Hold the settings against the checkpoint.

        Returns:
            What is asked of the pipeline for every frame, with the checkpoint's defaults filled in.

        Raises:
            InputError: The pipeline would refuse every frame, or there would never be metres.
        """
        request = check_request(
            self._metadata,
            self.pipe.scheduler_config,
            image=_IMAGE,
            next_image=_NEXT_IMAGE,
            visible_masks=_OBJECT,
            tasks=self.tasks(settings),
            aligner="standardize",
            **settings.sampling.arguments,
        )
        self._stream.check_temporal(settings.temporal, request)
        encoding = self._metadata.tasks.get("amodal")
        if settings.amodal_threshold and (encoding is None or "threshold" not in encoding.parameters):
            raise InputError(f"amodal.threshold has no meaning for checkpoint {self._metadata.name!r}; set it to 0.0.")
        if settings.scale_source != "none":
            self._check_metric(settings)
        return request

    def anchor(self) -> MetricAnchor:
        """What turns this checkpoint's relative depth into metres; ``check`` has nothing against it."""
        return MetricAnchor(DepthSpace.of_encoding(self._metadata.tasks["depth"].kind))

    def warm_up(self, settings: NodeSettings) -> None:
        """Predict once, so that the first frame takes no longer than the others, and what cannot work fails here.

        With a budget, what things cost on this device is measured. What is to be compiled is compiled for this.

        Raises:
            InputError: The pipeline refuses the settings.
            DeviceMemoryError: See ``predict``.
        """
        requests = [self._typical_request(settings, camera) for camera in settings.cameras]
        if settings.compile:
            samples = sum(len(Queries(self._metadata, request).queries) for request in requests)
            self.pipe.compile((min(samples, self.pipe.max_batch_size),))
        self.predict(requests, settings)
        self._stream.reset()

    def request(
        self,
        image: NDArray[np.uint8],
        next_image: NDArray[np.uint8] | None,
        visible_masks: NDArray[np.integer[Any]] | None,
        tasks: tuple[str, ...],
        settings: NodeSettings,
        camera: str,
        frame: Hashable = None,
        next_frame: Hashable = None,
        segment: int = 0,
    ) -> Request:
        """See ``PerceptionStream.request``.

        Raises:
            InputError: The pipeline refuses the arguments.
        """
        return self._stream.request(
            image,
            next_image,
            visible_masks,
            camera=camera,
            frame=frame,
            next_frame=next_frame,
            segment=segment,
            temporal=settings.temporal,
            tasks=tasks,
            **settings.sampling.arguments,
        )

    def forget(self, camera: str) -> None:
        """What came before has nothing to do with what comes now."""
        self._stream.reset(camera)

    def predict(self, requests: Sequence[Request], settings: NodeSettings) -> list[PerceptionOutput]:
        """Answer all requests in one batch, as far as it fits the budget and the memory; see ``BudgetedStream.batch``.

        Raises:
            CancelledError: ``cancel`` was called.
            DeviceMemoryError: Not even one sample at a time fits.
        """
        self.plan = None
        if not requests:
            return []
        if settings is not self._settings:
            self._apply(settings)
        if settings.budget_ms is not None and not self._budgeted.is_calibrated:
            # Not by the requests, which may be about a part of the tasks.
            self._budgeted.calibrate(self._typical_request(settings, settings.cameras[0]))
        outputs = self._budgeted.batch(requests)
        self.plan = self._budgeted.plan
        return outputs

    def spent_elsewhere(self, milliseconds: float) -> None:
        """See ``BudgetedStream.spent_elsewhere``."""
        self._budgeted.spent_elsewhere(milliseconds)

    def cancel(self) -> None:
        """Give up the prediction in progress, and every later one until ``resume``."""
        self._cancelled.set()

    def resume(self) -> None:
        """Predict again."""
        self._cancelled.clear()

    def release(self) -> None:
        """Free the device's memory; the model cannot be used afterwards."""
        device = self.pipe.device
        del self.pipe, self._stream, self._budgeted
        if device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()

    @property
    def budget_ms(self) -> float:
        """Time for one frame; NaN without a limit."""
        budget_ms = self._budgeted.budget_ms
        return math.nan if budget_ms is None else budget_ms

    @property
    def degraded_reason(self) -> str:
        """What the last prediction was denied, and why; empty if nothing was."""
        return self._budgeted.degraded_reason

    @property
    def device_memory(self) -> int:
        """Bytes in use on the device; 0 on the CPU, which shares its memory with everyone."""
        return int(torch.cuda.memory_allocated(self.pipe.device)) if self.pipe.device.type == "cuda" else 0

    def _check_metric(self, settings: NodeSettings) -> None:
        depth, name = self._metadata.tasks.get("depth"), self._metadata.name
        if depth is None or "depth" not in self.tasks(settings):
            raise InputError(
                f"depth.scale_source is {settings.scale_source!r}, but depth is not among the tasks; set it to none."
            )
        if settings.scale_source == "checkpoint" and depth.kind != "log_metric":
            raise InputError(
                f"depth.scale_source is 'checkpoint', but checkpoint {name!r} predicts relative depth ({depth.kind}); "
                "set it to 'reference' and publish depth_reference, or to 'none'."
            )
        DepthSpace.of_encoding(depth.kind)

    def _typical_request(self, settings: NodeSettings, camera: str) -> Request:
        return self.request(_IMAGE, _NEXT_IMAGE, _OBJECT, self.tasks(settings), settings, camera)

    def _apply(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._budgeted.budget_ms = settings.budget_ms
        self._budgeted.importance = self.tasks(settings)
        self._budgeted.forgive()
        metadata = self._metadata
        if settings.amodal_threshold:
            amodal = metadata.tasks["amodal"]
            amodal = replace(amodal, parameters={**amodal.parameters, "threshold": settings.amodal_threshold})
            metadata = replace(metadata, tasks={**metadata.tasks, "amodal": amodal})
        self.pipe.metadata = metadata

    def _check_cancelled(self, *_: Any) -> None:
        if self._cancelled.is_set():
            raise CancelledError


def _modules(pipe: PerceptionPipeline) -> list[torch.nn.Module]:
    """All of its networks' parts that have weights of their own, between which a prediction can be given up."""
    networks = [part for part in (pipe.transformer, pipe.decoder, *vars(pipe.codec).values()) if part is not None]
    parts = [part for network in networks if isinstance(network, torch.nn.Module) for part in network.modules()]
    return [part for part in parts if next(part.parameters(recurse=False), None) is not None]
