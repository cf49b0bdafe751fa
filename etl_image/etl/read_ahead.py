"""Work that overlaps: what makes batches runs in a thread of its own, a few batches ahead of what takes them.

The drivers and DuckDB let go of Python's lock while they work, so that each such thread has a core where one is free.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Generic, TypeVar

_T = TypeVar("_T")
_AHEAD = 2
"""How many batches wait at most: one too few and somebody idles, one too many and all it takes is memory."""


@contextmanager
def read_ahead(items: Iterable[_T]) -> Iterator[Iterator[_T]]:
    """The items in their order, made in another thread while the block works on those before.

    What goes wrong in that thread is raised where the next item is taken. When the block ends early, so does the
    thread, with the item it is at.
    """
    waiting = _Waiting[_T]()
    context = copy_context()  # what is bound to log lines here holds there, too
    thread = threading.Thread(target=lambda: context.run(_fill, waiting, items), name="read-ahead", daemon=True)
    thread.start()
    try:
        yield waiting.taken()
    finally:
        waiting.stop()
        thread.join()


def _fill(waiting: "_Waiting[_T]", items: Iterable[_T]) -> None:
    try:
        for item in items:
            if not waiting.put(item):
                return
    except BaseException as error:
        waiting.end(error)
    else:
        waiting.end(None)


class _Waiting(Generic[_T]):
    """What has been made and not yet taken."""

    def __init__(self) -> None:
        self._items: deque[_T] = deque()
        self._changed = threading.Condition()
        self._ended = self._stopped = False
        self._error: BaseException | None = None

    def put(self, item: _T) -> bool:
        """Add an item when there is room; False where nobody wants it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or len(self._items) < _AHEAD)
            if not self._stopped:
                self._items.append(item)
            self._changed.notify_all()
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

    def taken(self) -> Iterator[_T]:
        """Take the items, one after the other."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._ended or self._items)
                if not self._items:
                    break
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
            del item  # or it would be held while the next is waited for
        if self._error is not None:
            raise self._error
