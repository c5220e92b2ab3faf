"""PerceptionStream: the pipeline over frames that follow each other, each of which is encoded once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffusion_perception_ros.predictions import PerceptionOutput

# Replays are set up, and may fail, before anything waits for torch.
if TYPE_CHECKING:
    from torch import Tensor

    from diffusion_perception_ros.pipeline import Encode, PerceptionPipeline
    from diffusion_perception_ros.tasks import Picture

# Flow is about two frames, and depth may be about a newer one.
_FRAMES = 3


class PerceptionStream:
    """Predictions for one camera's frames, whose latents stay on the device for as long as they may be needed.

    The second frame of one pair is the first of the next: with a learned image codec, encoding it anew takes longer
    than a step of the transformer. What no frame changes, such as the prompt for depth, is encoded once in all.

    Args:
        pipe: The pipeline.

    Attributes:
        encoded: How many pictures have been encoded.
    """

    def __init__(self, pipe: PerceptionPipeline) -> None:
        self.pipe = pipe
        self.encoded = 0
        self._constant: dict[Hashable, Tensor] = {}
        self._frames: OrderedDict[Hashable, dict[Hashable, Tensor]] = OrderedDict()

    def __call__(
        self,
        image: NDArray[np.uint8],
        next_image: NDArray[np.uint8] | None = None,
        visible_masks: NDArray[np.integer[Any]] | None = None,
        *,
        frame: Hashable,
        next_frame: Hashable = None,
        **arguments: Any,
    ) -> PerceptionOutput:
        """See ``PerceptionPipeline.__call__``.

        Args:
            image: (H, W, 3) uint8 RGB.
            next_image: Likewise.
            visible_masks: (H, W) label image.
            frame: What ``image`` is known by, such as its stamp: the same name always means the same pixels.
            next_frame: Likewise for ``next_image``.
            arguments: The others of the pipeline's call.

        Raises:
            InputError: An argument is unusable.
        """
        names = {"image": frame, "next_image": next_frame}
        surface = image.shape, arguments.get("resize")

        def recall(pictures: Sequence[Picture], encode: Encode) -> list[Tensor]:
            shelves = [self._shelf(picture, names) for picture in pictures]
            variants = [(surface, picture.interpolation, picture.mirrored, picture.region) for picture in pictures]
            kept = list(zip(shelves, variants, pictures, strict=True))
            missing = list(dict.fromkeys(picture for shelf, variant, picture in kept if variant not in shelf))
            if missing:
                self.encoded += len(missing)
                made = dict(zip(missing, encode(missing), strict=True))
                for shelf, variant, picture in kept:
                    if picture in made:
                        shelf[variant] = made[picture]
            return [shelf[variant] for shelf, variant, _ in kept]

        output = self.pipe(image, next_image, visible_masks, recall=recall, **arguments)
        while len(self._frames) > _FRAMES:
            self._frames.popitem(last=False)
        return output

    def reset(self) -> None:
        """Forget all frames: their names begin anew."""
        self._frames.clear()

    def _shelf(self, picture: Picture, names: dict[str, Hashable]) -> dict[Hashable, Tensor]:
        """Where the latents of a picture are kept; of what is about an instance nowhere, since masks have no name."""
        if picture.source == "ones":
            return self._constant
        name = names.get(picture.source)
        if name is None:
            return {}
        self._frames.setdefault(name, {})
        self._frames.move_to_end(name)
        return self._frames[name]
