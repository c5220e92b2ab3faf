"""Between those who receive and the one who works: a box that holds only the newest of each kind."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any


class Mailbox:
    """Slots, each with room for one item; what is not fetched in time is replaced and counted.

    Nothing queues up, so that whoever is slower than the input always works on the newest.

    Args:
        changed: Boxes with the same condition can be waited for together, see ``fetch_all``.
    """

    def __init__(self, changed: threading.Condition | None = None) -> None:
        self._changed = changed or threading.Condition()
        self._items: dict[str, Any] = {}
        self._replaced: Counter[str] = Counter()
        self._closed = False

    def post(self, **items: Any) -> None:
        """Put items into the slots of these names, all at once."""
        with self._changed:
            self._replaced.update(items.keys() & self._items.keys())
            self._items.update(items)
            self._changed.notify()

    def fetch(self, timeout: float | None = None) -> dict[str, Any]:
        """Take out everything, as soon as there is something.

        Args:
            timeout: Seconds to wait; None for as long as it takes.

        Returns:
            Items by slot; empty after the timeout, and always once the box is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout)
            return self._take()

    def _take(self) -> dict[str, Any]:
        items, self._items = self._items, {}
        return {} if self._closed else items

    def clear(self) -> set[str]:
        """Throw away what waits, uncounted; the slots that it waited in."""
        with self._changed:
            slots, self._items = set(self._items), {}
            return slots

    def close(self) -> None:
        """Wake everyone who waits; from now on there is nothing to fetch."""
        with self._changed:
            self._closed = True
            self._items = {}
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    @property
    def replaced(self) -> Counter[str]:
        """How many items were replaced before anyone fetched them, by slot."""
        with self._changed:
            return Counter(self._replaced)


def fetch_all(boxes: Sequence[Mailbox]) -> list[dict[str, Any]]:
    """Take out everything, as soon as there is something in any of several boxes.

    Args:
        boxes: Of one condition.

    Returns:
        Items by slot, of each box; nothing once one of them is closed.
    """
    changed = boxes[0]._changed
    with changed:
        changed.wait_for(lambda: any(box._items or box._closed for box in boxes))
        return [] if any(box._closed for box in boxes) else [box._take() for box in boxes]
