"""Work that overlaps: threads, and bounded queues between them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class AbandonedError(Exception):
    """Nobody is at the other end any more."""


class Channel(Generic[T]):
    """Hands items from one thread to another, in order.

    Args:
        size: How many may wait; who puts in more has to wait as well, which bounds the memory.
    """

    def __init__(self, size: int) -> None:
        self._changed = threading.Condition()
        self._items: deque[T] = deque()
        self._size = size
        self._ended = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Hand over one item.

        Raises:
            AbandonedError: The channel was broken, or its end passed.
        """
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._size or self._ended)
            if self._ended:
                raise AbandonedError
            self._items.append(item)
            self._changed.notify_all()

    def end(self) -> None:
        """Nothing more comes after what waits."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """End both sides at once: whoever takes out gets this error, and what waits is thrown away."""
        with self._changed:
            self._ended, self._error = True, self._error or error
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._ended)
                if self._error is not None:
                    raise self._error
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
            del item  # not kept while the next one is awaited


class ReadAhead(Generic[T]):
    """Iterates in a thread of its own, and hands over what comes out.

    Leaving the context ends the thread. An error in it is raised where the items are taken out.

    Args:
        items: Closed at the end, if it is a generator.
        size: How many items may wait.
    """

    def __init__(self, items: Iterable[T], size: int) -> None:
        self._items = items
        self._channel: Channel[T] = Channel(size)
        self._thread = threading.Thread(target=self._work, name="read", daemon=True)

    def __enter__(self) -> Iterator[T]:
        self._thread.start()
        return iter(self._channel)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._channel.fail(AbandonedError())
        self._thread.join()

    def _work(self) -> None:
        try:
            for item in self._items:
                self._channel.put(item)
            self._channel.end()
        except BaseException as error:
            self._channel.fail(error)
        finally:
            # Here, because what is open in this thread cannot be closed in every other.
            close: Callable[[], Any] = getattr(self._items, "close", lambda: None)
            close()


class WriteBehind(Generic[T]):
    """Hands items to a function that takes them out in a thread of its own.

    Entering the context waits until the function asks for the first item, leaving it until the function has returned;
    after an exception, the function finds an ``AbandonedError`` in the place of its next item. An error of its own is
    raised where the context is entered, by the next `put`, or where it is left.

    Args:
        work: Takes an iterator over the items.
        size: How many items may wait.
    """

    def __init__(self, work: Callable[[Iterator[T]], None], size: int) -> None:
        self._function = work
        self._channel: Channel[T] = Channel(size)
        self._error: BaseException | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._work, name="write", daemon=True)

    def __enter__(self) -> WriteBehind[T]:
        self._thread.start()
        try:
            self._ready.wait()
        except BaseException:
            self._abandon()
            raise
        if self._error is not None:
            raise self._error
        return self

    def put(self, item: T) -> None:
        """Hand over one item, as soon as there is room."""
        try:
            self._channel.put(item)
        except AbandonedError:
            self._thread.join()
            raise (self._error or AbandonedError()) from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._abandon()
            return
        self._channel.end()
        try:
            self._thread.join()
        except BaseException:  # an interrupt while the rest is being written
            self._abandon()
            raise
        if self._error is not None:
            raise self._error

    def _abandon(self) -> None:
        self._channel.fail(AbandonedError())
        self._thread.join()

    def _work(self) -> None:
        try:
            self._function(self._items())
        except BaseException as error:
            self._error = error
            self._channel.fail(AbandonedError())
        finally:
            self._ready.set()

    def _items(self) -> Iterator[T]:
        self._ready.set()
        yield from self._channel
