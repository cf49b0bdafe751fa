"""Work that overlaps: what makes batches runs in a thread of its own, a few batches ahead of what takes them.

The drivers and DuckDB let go of Python's lock while they work, so that each such thread has a core where one is free.
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
"""How many batches wait at most: one too few and somebody idles, one too many and all it takes is memory."""
_AHEAD_BYTES = 4 * BATCH_BYTES
"""With more bytes than these waiting or in use nothing is made: a batch of one long row is alone in memory."""


@contextmanager
def prefetch(items: Iterable[_T]) -> Iterator[Iterator[_T]]:
    """The items in their order, made in another thread while the block works on those before.

    Work overlaps only while the items (of which `nbytes` counts, where they have it) are small. What goes wrong in that
    thread is raised where the next item is taken. When the block ends early, so does the thread, with the item it is
    at.
    """
    waiting = _Waiting[_T]()
    context = copy_context()  # what is bound to log lines here holds there, too
    thread = threading.Thread(target=lambda: context.run(_fill, waiting, items), name="read-ahead", daemon=True)
    thread.start()
    try:
        yield waiting
    finally:
        waiting.stop()
        thread.join()


def _fill(waiting: "_Waiting[_T]", items: Iterable[_T]) -> None:
    made = iter(items)
    try:
        # No variable here keeps an item while the next is made.
        while waiting.put(next(made)):
            pass
    except StopIteration:
        waiting.end(None)
    except BaseException as error:
        waiting.end(error)


class _Waiting(Generic[_T]):
    """What has been made and not yet taken, as an iterator that takes it and keeps nothing."""

    def __init__(self) -> None:
        self._items: deque[_T] = deque()
        self._changed = threading.Condition()
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._bytes = self._bytes_in_use = 0

    def put(self, item: _T) -> bool:
        """Add an item when there is room, and wait until there is for another; False after `stop`."""
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
        """There will be no more items, because of an error or because that was all."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def stop(self) -> None:
        """Nobody wants any more items."""
        with self._changed:
            self._stopped = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _T:
        with self._changed:
            # Asking for the next item says that the one before is done with.
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
