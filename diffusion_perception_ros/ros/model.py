"""The checkpoint behind the node: loaded, checked, called and freed; the only place that calls the pipeline."""

from __future__ import annotations

import gc
import threading
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.metric.anchor import MetricAnchor
from diffusion_perception_ros.metric.fit import DepthSpace
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.request import Request, check_request
from diffusion_perception_ros.ros.parameters import EMBEDDED, NodeSettings
from diffusion_perception_ros.stream import PerceptionStream

_BLACK = np.zeros((64, 64, 3), np.uint8)
_OBJECT = np.pad(np.ones((32, 32), np.uint8), 16)


class CancelledError(Exception):
    """The prediction was given up because the node stops."""


class DeviceMemoryError(Exception):
    """The prediction did not fit into the device's memory."""


class Model:
    """A pipeline that can be given up in the middle of a prediction.

    Args:
        pipe: The pipeline.

    Attributes:
        degraded_reason: What was reduced, and why; empty if nothing was.
    """

    def __init__(self, pipe: PerceptionPipeline) -> None:
        self.pipe = pipe
        self._stream = PerceptionStream(pipe)
        self.degraded_reason = ""
        self._metadata = pipe.metadata
        self._cancelled = threading.Event()
        for network in (pipe.transformer, *vars(pipe.codec).values()):
            if isinstance(network, torch.nn.Module):
                for module in network.modules():
                    if next(module.parameters(recurse=False), None) is not None:
                        module.register_forward_pre_hook(self._check_cancelled)

    @classmethod
    def load(cls, settings: NodeSettings) -> Model:
        """Load the checkpoint that the settings name.

        Raises:
            InputError: It cannot be read, or the device is not there.
        """
        options: dict[str, Any] = {"device": settings.device, "torch_dtype": getattr(torch, settings.dtype)}
        checkpoint = Path(settings.checkpoint).expanduser()
        if settings.checkpoint == EMBEDDED:
            return cls(PerceptionPipeline.embedded(**options))
        if settings.stable_diffusion:
            folder = Path(settings.stable_diffusion).expanduser()
            return cls(PerceptionPipeline.from_official(checkpoint, folder, **options))
        return cls(PerceptionPipeline.from_pretrained(checkpoint, **options))

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
            image=_BLACK,
            next_image=_BLACK,
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
        """Predict once, so that the first frame takes no longer than the others, and what cannot work fails here."""
        requests = [
            self.request(_BLACK, _BLACK, _OBJECT, self.tasks(settings), settings, camera=camera)
            for camera in settings.cameras
        ]
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
        """Answer all requests in one batch; see ``PerceptionStream.batch``.

        Raises:
            CancelledError: ``cancel`` was called.
            DeviceMemoryError: It does not fit; the next prediction is computed in smaller batches.
        """
        self._apply(settings)
        try:
            return self._stream.batch(requests)
        except torch.cuda.OutOfMemoryError:
            self.pipe.max_batch_size = max(1, self.pipe.max_batch_size // 2)
            self.degraded_reason = f"batches of {self.pipe.max_batch_size}, because the device ran out of memory"
            failure = DeviceMemoryError(f"the device ran out of memory; continuing with {self.degraded_reason}.")
        # Outside of the handler, whose traceback would hold on to the tensors.
        torch.cuda.empty_cache()
        raise failure

    def cancel(self) -> None:
        """Give up the prediction in progress, and every later one until ``resume``."""
        self._cancelled.set()

    def resume(self) -> None:
        """Predict again."""
        self._cancelled.clear()

    def release(self) -> None:
        """Free the device's memory; the model cannot be used afterwards."""
        device = self.pipe.device
        del self.pipe, self._stream
        if device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()

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

    def _apply(self, settings: NodeSettings) -> None:
        metadata = self._metadata
        if settings.amodal_threshold:
            amodal = metadata.tasks["amodal"]
            amodal = replace(amodal, parameters={**amodal.parameters, "threshold": settings.amodal_threshold})
            metadata = replace(metadata, tasks={**metadata.tasks, "amodal": amodal})
        self.pipe.metadata = metadata

    def _check_cancelled(self, *_: Any) -> None:
        if self._cancelled.is_set():
            raise CancelledError
