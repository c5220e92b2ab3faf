"""What a noisy measurement will hardly exceed, from its last values."""

from __future__ import annotations

import heapq
from collections import deque

_WINDOW = 20
_OUTLIERS = 2
_FALL = 0.8


class UpperEstimate:
    """The third largest of the last twenty values: two outliers never move it, three slow frames do.

    It follows a rise at once, and a fall by more than a fifth only. Of values that jitter by 10 % each is at least
    0.9 / 1.1 > 0.8 times any other, so that with such jitter the estimate never falls, and what depends on it does not
    swing back and forth.

    Args:
        initial: The estimate as long as there are fewer than three values.

    Attributes:
        value: The estimate.
    """

    def __init__(self, initial: float) -> None:
        self.value = initial
        self._recent: deque[float] = deque(maxlen=_WINDOW)

    def add(self, value: float) -> None:
        """Take a measurement into account."""
        self._recent.append(value)
        largest = heapq.nlargest(_OUTLIERS + 1, self._recent)
        if len(largest) > _OUTLIERS and not _FALL * self.value <= largest[-1] <= self.value:
            self.value = largest[-1]
