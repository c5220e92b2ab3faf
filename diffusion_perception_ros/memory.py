"""What a stream remembers from frame to frame: latents of pictures, and what never changes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

# Replays are set up, and may fail, before anything waits for torch.
if TYPE_CHECKING:
    from torch import Tensor

    from diffusion_perception_ros.networks import Encode
    from diffusion_perception_ros.queries import View

# Flow is about two frames, and depth may be about a newer one.
_FRAMES = 3
# Of schedules and labels: a frame has one, or one for each of a few batches, as long as its objects are as many.
_CONDITIONS = 16

Shelf = dict[Hashable, "Tensor"]
Made = TypeVar("Made")


class Memory:
    """Latents of the last frames of each camera, of constant prompts, and conditions of the network.

    All are of the same networks, whose weights must not change.

    Attributes:
        encoded: How many pictures have been encoded.
    """

    def __init__(self) -> None:
        self.encoded = 0
        self._constant: Shelf = {}
        self._cameras: dict[Hashable, OrderedDict[Hashable, Shelf]] = {}
        self._conditions: OrderedDict[Hashable, Any] = OrderedDict()

    def latents(self, views: Sequence[View], encode: Encode) -> list[Tensor]:
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

    def condition(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What depends on the key alone, such as the modulations of timesteps and labels."""
        if key not in self._conditions:
            self._conditions[key] = make()
        self._conditions.move_to_end(key)
        while len(self._conditions) > _CONDITIONS:
            self._conditions.popitem(last=False)
        kept: Made = self._conditions[key]
        return kept

    def forget(self, camera: Hashable) -> None:
        """The names of its frames begin anew."""
        self._cameras.pop(camera, None)

    def forget_older_frames(self) -> None:
        """Those that no further frame is about."""
        for frames in self._cameras.values():
            while len(frames) > _FRAMES:
                frames.popitem(last=False)

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
