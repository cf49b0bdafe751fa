"""Application locks of sp_getapplock: exclusive, owned by a transaction or a session."""

import time
from collections.abc import Callable
from threading import Condition

GRANTED, GRANTED_AFTER_WAITING, TIMED_OUT, INVALID = 0, 1, -1, -999
_POLL_SECONDS = 0.2


class AppLocks:
    """Owners of resources; names of resources are compared byte by byte, as in SQL Server."""

    def __init__(self) -> None:
        self._holders: dict[str, object] = {}
        self._changed = Condition()

    def acquire(self, owner: object, resource: str, timeout_ms: int, given_up: Callable[[], bool]) -> int:
        """Wait for a resource (-1: without limit); returns what sp_getapplock returns.

        `given_up`: whether the client has cancelled; called a few times a second.
        """
        deadline = time.monotonic() + timeout_ms / 1000 if timeout_ms >= 0 else float("inf")
        waited = False
        with self._changed:
            while self._holders.get(resource, owner) is not owner:
                left = deadline - time.monotonic()
                if left <= 0 or given_up():
                    return TIMED_OUT
                waited = True
                self._changed.wait(min(left, _POLL_SECONDS))
            self._holders[resource] = owner
        return GRANTED_AFTER_WAITING if waited else GRANTED

    def release(self, owner: object) -> None:
        """Release all locks of an owner."""
        with self._changed:
            self._holders = {resource: holder for resource, holder in self._holders.items() if holder is not owner}
            self._changed.notify_all()
