"""PerceptionStream: the pipeline over frames that follow each other, each of which is encoded once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.predictions import PerceptionOutput

# Replays are set up, and may fail, before anything waits for torch.
if TYPE_CHECKING:
    from torch import Tensor

    from diffusion_perception_ros.pipeline import Encode, PerceptionPipeline
    from diffusion_perception_ros.queries import View
    from diffusion_perception_ros.request import Request

# Flow is about two frames, and depth may be about a newer one.
_FRAMES = 3

Shelf = dict[Hashable, "Tensor"]


class PerceptionStream:
    """Predictions for frames of one or several cameras; their latents stay on the device as long as they may be needed.

    The second frame of one pair is the first of the next: with a learned image codec, encoding it anew takes longer
    than a step of the transformer. What no frame changes, such as the prompt for depth, is encoded once in all. A
    camera's frames are forgotten when their size changes.

    Args:
        pipe: The pipeline.

    Attributes:
        encoded: How many pictures have been encoded.
    """

    def __init__(self, pipe: PerceptionPipeline) -> None:
        self.pipe = pipe
        self.encoded = 0
        self._constant: Shelf = {}
        self._cameras: dict[Hashable, OrderedDict[Hashable, Shelf]] = {}
        self._sizes: dict[Hashable, tuple[int, ...]] = {}

    def request(
        self,
        image: NDArray[np.uint8],
        next_image: NDArray[np.uint8] | None = None,
        visible_masks: NDArray[np.integer[Any]] | None = None,
        *,
        frame: Hashable,
        next_frame: Hashable = None,
        camera: Hashable = None,
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
            arguments: The others of the pipeline's call.

        Raises:
            InputError: An argument is unusable.
        """
        request = self.pipe.request(image, next_image, visible_masks, **arguments)
        return replace(request, camera=camera, frame=frame, next_frame=next_frame)

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
        outputs = self.pipe.batch(requests, self._recall)
        for frames in self._cameras.values():
            while len(frames) > _FRAMES:
                frames.popitem(last=False)
        return outputs

    def reset(self, *cameras: Hashable) -> None:
        """Forget the frames of these cameras, or of all: their names begin anew."""
        for camera in cameras or tuple(self._cameras):
            self._cameras.pop(camera, None)
            self._sizes.pop(camera, None)

    def _recall(self, views: Sequence[View], encode: Encode) -> list[Tensor]:
        """The latents of the views, of which those that are not known yet are encoded."""
        shelves = [self._shelf(view) for view in views]
        kept = list(zip(shelves, views, strict=True))
        missing = [view for shelf, view in kept if view.key not in shelf]
        if missing:
            self.encoded += len(missing)
            made = iter(encode(missing))
            for shelf, view in kept:
                if view.key not in shelf:
                    shelf[view.key] = next(made)
        return [shelf[view.key] for shelf, view in kept]

    def _shelf(self, view: View) -> Shelf:
        """Where the latents of a view are kept; of what is about an instance nowhere, since masks have no name."""
        request, source = view.request, view.picture.source
        if source == "ones":
            return self._constant
        name = {"image": request.frame, "next_image": request.next_frame}.get(source)
        if name is None:
            return {}
        frames = self._cameras.setdefault(request.camera, OrderedDict())
        frames.setdefault(name, {})
        frames.move_to_end(name)
        return frames[name]
