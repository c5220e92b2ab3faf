"""The last few items of a stream, by their stamps."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class StampedHistory(Generic[T]):
    """The newest items of a stream.

    Args:
        size: Number of items to keep.
        size_of: The memory an item needs, in bytes.
        max_bytes: The oldest go earlier if together they need more than this (but the newest always stays).
    """

    def __init__(self, size: int, size_of: Callable[[T], int] | None = None, max_bytes: int = 1 << 62) -> None:
        self._size, self._size_of, self._max_bytes = size, size_of, max_bytes
        self._items: OrderedDict[int, T] = OrderedDict()

    def add(self, stamp: int, item: T) -> None:
        """Keep an item under its stamp in ns; it replaces an older one of the same stamp."""
        self._items.pop(stamp, None)
        self._items[stamp] = item
        while len(self._items) > self._size or (len(self._items) > 1 and self._bytes() > self._max_bytes):
            self._items.popitem(last=False)

    def pop(self, stamp: int) -> T | None:
        """The item of exactly this stamp, taken out."""
        return self._items.pop(stamp, None)

    def at(self, stamp: int) -> T | None:
        """The item of exactly this stamp."""
        return self._items.get(stamp)

    def nearest(self, stamp: int) -> T | None:
        """The item whose stamp is closest; of two, the earlier one."""
        if not self._items:
            return None
        return self._items[min(self._items, key=lambda other: (abs(other - stamp), other))]

    @property
    def last(self) -> T | None:
        """The item that was added last."""
        return next(reversed(self._items.values()), None)

    def clear(self) -> None:
        """Forget everything."""
        self._items.clear()

    def __len__(self) -> int:
        return len(self._items)

    def _bytes(self) -> int:
        return sum(map(self._size_of, self._items.values())) if self._size_of else 0
