"""PerceptionStream: the pipeline over frames that follow each other, each of which is encoded once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.memory import Memory
from diffusion_perception_ros.predictions import PerceptionOutput
from diffusion_perception_ros.temporal import check_temporal

# Replays are set up, and may fail, before anything waits for torch.
if TYPE_CHECKING:
    from diffusion_perception_ros.pipeline import PerceptionPipeline
    from diffusion_perception_ros.request import Request

_ABOUT_DEPTH = ("depth_relative", "depth_uncertainty", "depth_median", "depth_metric")


class PerceptionStream:
    """Predictions for frames of one or several cameras; their latents stay on the device as long as they may be needed.

    The second frame of one pair is the first of the next: with a learned image codec, encoding it anew takes longer
    than a step of the transformer. What no frame changes, such as the prompt for depth, is encoded once in all. A
    camera's frames are forgotten when their size changes.

    Depth can continue the frame before, by ``temporal`` of each request: as a moving average along the predicted flow
    (``moving_average``), or from a warm start at the last prediction, moved along the flow (``warm_start``, which
    measured worse: docs/temporal.md). The flow from one frame with depth to the next is taken from where it was asked
    for, in the same call or the one before; else it is asked for beside what was asked. After a scene cut, and where
    frames do not follow each other, depth begins anew.

    Args:
        pipe: The pipeline.

    Attributes:
        memory: What it remembers from frame to frame.
    """

    def __init__(self, pipe: PerceptionPipeline) -> None:
        self.pipe = pipe
        self.memory = Memory()
        self._sizes: dict[Hashable, tuple[int, ...]] = {}
        # Here, because it brings torch, which the pipeline has brought by now.
        from diffusion_perception_ros.temporal.continuity import Continuity  # noqa: PLC0415

        self._continuity = Continuity(pipe)

    def request(
        self,
        image: NDArray[np.uint8],
        next_image: NDArray[np.uint8] | None = None,
        visible_masks: NDArray[np.integer[Any]] | None = None,
        *,
        frame: Hashable,
        next_frame: Hashable = None,
        camera: Hashable = None,
        segment: int = 0,
        temporal: str = "off",
        **arguments: Any,
    ) -> Request:
        """What is asked about one frame, checked, for ``batch``. See ``PerceptionPipeline.__call__``.

        Args:
            image: (H, W, 3) uint8 RGB.
            next_image: Likewise.
            visible_masks: (H, W) label image.
            frame: What ``image`` is known by, such as its stamp: until ``reset``, the same name of the same camera
                always means the same pixels. None for a frame that does not come again.
            next_frame: Likewise for ``next_image``.
            camera: Whose frames these are, where there are several.
            segment: Frames of different segments do not follow each other: time began anew between them.
            temporal: How depth continues the frame before: ``off``, ``moving_average`` or ``warm_start``.
            arguments: The others of the pipeline's call.

        Raises:
            InputError: An argument is unusable.
        """
        request = self.pipe.request(image, next_image, visible_masks, **arguments)
        self.check_temporal(temporal, request)
        return replace(request, camera=camera, frame=frame, next_frame=next_frame, segment=segment, temporal=temporal)

    def check_temporal(self, temporal: str, request: Request) -> None:
        """Refuse a way to continue that does not fit checkpoint and sampling.

        Args:
            temporal: See ``request``.
            request: From the pipeline; the frame makes no difference.

        Raises:
            InputError: The message says why and what works.
        """
        check_temporal(temporal, tuple(self.pipe.metadata.tasks))
        if temporal == "warm_start":
            from diffusion_perception_ros.sampling.warm_start import check_warm_start  # noqa: PLC0415

            check_warm_start(request.sampler, self.pipe.scheduler_config, request.num_inference_steps)

    def __call__(
        self,
        image: NDArray[np.uint8],
        next_image: NDArray[np.uint8] | None = None,
        visible_masks: NDArray[np.integer[Any]] | None = None,
        **arguments: Any,
    ) -> PerceptionOutput:
        """See one frame; the arguments are those of ``request``.

        Raises:
            InputError: An argument is unusable.
        """
        return self.batch([self.request(image, next_image, visible_masks, **arguments)])[0]

    def batch(self, requests: Sequence[Request]) -> list[PerceptionOutput]:
        """See several frames at once: of one camera in the order of their time, or of several cameras.

        Args:
            requests: From ``request``.

        Returns:
            See ``PerceptionPipeline.batch``.
        """
        for request in requests:
            size = request.image.shape
            if self._sizes.setdefault(request.camera, size) != size:
                self.reset(request.camera)
                self._sizes[request.camera] = size
        if any(request.temporal == "warm_start" for request in requests):
            # Each starts from what was said of the one before.
            outputs = [self._warm_started(request) for request in requests]
        else:
            outputs = self._together(requests)
        self.memory.forget_older_frames()
        return outputs

    def _together(self, requests: Sequence[Request]) -> list[PerceptionOutput]:
        if all(request.temporal == "off" for request in requests):
            self._continuity.reset(*{request.camera for request in requests})
            return self.pipe.batch(requests, self.memory)
        asked = [*requests, *self._continuity.missing_flows(requests)]
        outputs = self.pipe.batch(asked, self.memory, self._continuity.refine)[: len(requests)]
        return [
            replace(output, warm_started=self._continuity.take_continued(request))
            for output, request in zip(outputs, requests, strict=True)
        ]

    def _warm_started(self, request: Request) -> PerceptionOutput:
        missing = self._continuity.missing_flows([request])
        if missing:  # before the depth, which begins with it
            self.pipe.batch(missing, self.memory, self._continuity.refine)
        start = self._continuity.start(request)
        if start is None:
            return self._together([request])[0]
        depth = tuple(task for task in request.tasks if task.name == "depth")
        others = tuple(task for task in request.tasks if task.name != "depth")
        parts = [replace(request, tasks=depth, start=start), *([replace(request, tasks=others)] if others else [])]
        first, *rest = self.pipe.batch(parts, self.memory, self._continuity.refine)
        about_depth = {name: getattr(first, name) for name in _ABOUT_DEPTH}
        return replace(rest[0] if rest else first, **about_depth, warm_started=True)

    def reset(self, *cameras: Hashable) -> None:
        """Forget the frames of these cameras, or of all: their names begin anew."""
        for camera in cameras or tuple(self._sizes):
            self.memory.forget(camera)
            self._sizes.pop(camera, None)
            self._continuity.reset(camera)
