"""Faults that a client injects into the double, to test how it handles them."""

from threading import Lock

from dev.sandbox.sqlserver.errors import SqlError

NAMES = frozenset(
    {
        "bulk_delay",  # wait `value` ms when the first rows of the next bulk load have come
        "deadlock_victim",  # error 1205 at the next INSERT, UPDATE or DELETE in a transaction
        "disk_full",  # error 1105 at the next bulk batch
        "drop_connection_after_bulk_rows",  # cut a bulk load after `value` rows have been received
        "drop_connection_after_commit",  # the next commit of changed rows is done, its answer is not sent
        "drop_connection_before_commit",  # the next commit of changed rows is not done
        "lock_timeout",  # the next sp_getapplock that would wait returns -1
        "login_failure",  # error 18456 at the next login
        "lose_bulk_rows",  # drop `value` rows of the next bulk batches silently
        "recovering",  # the database is being recovered, until standin_clear_faults
        "slow_network",  # wait `value` ms before the next packet, in either direction
        "statement_delay",  # wait `value` ms before the next statement on tables
    }
)


class Faults:
    """Pending faults of all sessions; each happens as many times as was asked for."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[int]] = {}
        self._lock = Lock()

    def inject(self, fault: str, value: int, times: int) -> None:
        """Add a fault. Raises SqlError 50000 for an unknown one."""
        if fault not in NAMES:
            raise SqlError(50000, f"the SQL Server double knows no fault {fault}; it knows {', '.join(sorted(NAMES))}")
        with self._lock:
            self._waiting.setdefault(fault, []).extend([value] * times)

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._waiting.clear()

    def take(self, fault: str) -> int | None:
        """The value of a fault that is due, using it up; None if none is."""
        if fault not in self._waiting:
            return None
        with self._lock:
            values = self._waiting.get(fault, [])
            value = values.pop(0) if values else None
            if not values:
                self._waiting.pop(fault, None)
        return value

    def take_part(self, fault: str, amount: int) -> int | None:
        """Use up to `amount` of a fault's value; returns how much was used.

        None without such a fault. The fault is over when its value is used up.
        """
        if fault not in self._waiting:
            return None
        with self._lock:
            values = self._waiting.get(fault, [])
            if not values:
                return None
            used = min(values[0], amount)
            values[0] -= used
            if not values[0]:
                values.pop(0)
            if not values:
                self._waiting.pop(fault, None)
        return used
