"""Prefetch: a producer thread stays at most two batches ahead of the consumer.

The drivers and DuckDB release Python's lock while they work, so that each thread can use a core.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Generic, Self, TypeVar

from etl.steps.batches import BATCH_BYTES

_T = TypeVar("_T")
_AHEAD = 2
"""Batches that wait at most: with fewer a thread is idle, more only take memory."""
_AHEAD_BYTES = 4 * BATCH_BYTES
"""The producer stops while more bytes than these wait or are in use: a batch of one long row is alone in memory."""


@contextmanager
def prefetch(items: Iterable[_T]) -> Iterator[Iterator[_T]]:
    """The items in order, produced by another thread while the block works on earlier ones.

    Work overlaps only while the items, by their `nbytes` if any, are small. An error in the thread is raised where the
    next item is taken. If the block ends early, the thread ends after its current item.
    """
    queue = _Queue[_T]()
    context = copy_context()  # the fields bound to log lines
    thread = threading.Thread(target=lambda: context.run(_fill, queue, items), name="read-ahead", daemon=True)
    thread.start()
    try:
        yield queue
    finally:
        queue.stop()
        thread.join()


def _fill(queue: "_Queue[_T]", items: Iterable[_T]) -> None:
    made = iter(items)
    try:
        # Without a variable that would hold an item while the next is made.
        while queue.put(next(made)):
            pass
    except StopIteration:
        queue.end(None)
    except BaseException as error:
        queue.end(error)


class _Queue(Generic[_T]):
    """The queue of items between producer and consumer; as an iterator it holds no item after it returned it."""

    def __init__(self) -> None:
        self._items: deque[_T] = deque()
        self._changed = threading.Condition()
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._bytes = self._bytes_in_use = 0

    def put(self, item: _T) -> bool:
        """Add an item when there is room, and wait for room for another; False after `stop`."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or len(self._items) < _AHEAD)
            if not self._stopped:
                self._items.append(item)
                self._bytes += _size(item)
            del item
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._stopped or self._bytes <= _AHEAD_BYTES)
            return not self._stopped

    def end(self, error: BaseException | None) -> None:
        """Mark the end of the items, with the error if there was one."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def stop(self) -> None:
        """Stop the producer and discard waiting items."""
        with self._changed:
            self._stopped = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _T:
        with self._changed:
            # The consumer is done with an item when it asks for the next.
            self._bytes -= self._bytes_in_use
            self._bytes_in_use = 0
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._stopped or self._ended or self._items)
            if not self._items:
                raise self._error or StopIteration
            self._bytes_in_use = _size(self._items[0])
            return self._items.popleft()


def _size(item: object) -> int:
    return getattr(item, "nbytes", 0)
