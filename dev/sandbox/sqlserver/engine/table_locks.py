"""Locks of whole tables: a session that holds one exclusively keeps the others' statements out until it commits.

https://learn.microsoft.com/sql/relational-databases/sql-server-transaction-locking-and-row-versioning-guide
"""

import time
from collections.abc import Callable, Mapping
from enum import IntEnum
from threading import Condition
from typing import NamedTuple

from dev.sandbox.sqlserver.errors import lock_timeout

NO_LIMIT = -1
"""The LOCK_TIMEOUT of a session that has set none."""
_POLL_SECONDS = 0.2


class Mode(IntEnum):
    """Modes of a lock, the weakest first: a read of a snapshot, a read, one with TABLOCK, a write, and exclusive."""

    SCHEMA_STABILITY = 0
    INTENT_SHARED = 1
    SHARED = 2
    INTENT_EXCLUSIVE = 3
    EXCLUSIVE = 4
    SCHEMA_MODIFICATION = 5

    @property
    def lasts(self) -> bool:
        """Whether it is held until the transaction ends, and not only until its statement has run."""
        return self >= Mode.INTENT_EXCLUSIVE

    def excludes(self, other: "Mode") -> bool:
        """Whether another session cannot hold that mode beside this one."""
        low, high = sorted((self, other))
        if high == Mode.SCHEMA_MODIFICATION:
            return True
        if high == Mode.EXCLUSIVE:
            return low != Mode.SCHEMA_STABILITY
        return (low, high) == (Mode.SHARED, Mode.INTENT_EXCLUSIVE)


class _Lock(NamedTuple):
    owner: object
    table: str
    mode: Mode


class TableLocks:
    """The locks of all sessions. A deadlock of two that wait for each other is not detected."""

    def __init__(self) -> None:
        self._held: list[_Lock] = []
        self._changed = Condition()

    def acquire(
        self,
        owner: object,
        wanted: Mapping[str, Mode],
        given_up: Callable[[], bool],
        reads_snapshots: Callable[[], bool],
        timeout_ms: int,
    ) -> None:
        """Wait for the locks of a statement; returns without them if the client has given up.

        `reads_snapshots`: whether a read sees the last committed rows instead of waiting for a writer.
        Raises SqlError 1222 after `timeout_ms`.
        """
        deadline = time.monotonic() + timeout_ms / 1000 if timeout_ms != NO_LIMIT else float("inf")
        for table, mode in wanted.items():
            with self._changed:
                while self._is_blocked(owner, table, mode) and not given_up():
                    if mode == Mode.INTENT_SHARED and reads_snapshots():
                        mode = Mode.SCHEMA_STABILITY
                        continue
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise lock_timeout()
                    self._changed.wait(min(left, _POLL_SECONDS))
                self._held.append(_Lock(owner, table, mode))

    def end_statement(self, owner: object) -> None:
        """Release what does not last longer than a statement."""
        self._keep(lambda lock: lock.owner is not owner or lock.mode.lasts)

    def end_transaction(self, owner: object) -> None:
        """Release all locks of an owner."""
        self._keep(lambda lock: lock.owner is not owner)

    def _is_blocked(self, owner: object, table: str, mode: Mode) -> bool:
        return any(lock.owner is not owner and lock.table == table and lock.mode.excludes(mode) for lock in self._held)

    def _keep(self, is_kept: Callable[[_Lock], bool]) -> None:
        with self._changed:
            self._held = [lock for lock in self._held if is_kept(lock)]
            self._changed.notify_all()
