"""StatsD client of Airflow's processes that resolves the exporter's address repeatedly, and queues metrics until then.

Configured as [metrics] statsd_custom_client_path. The library's client resolves the address once, at its creation. If
DNS does not answer at that moment, as after a reboot, Airflow logs "Could not configure StatsClient … using
NoStatsLogger instead", and the process sends no metrics until it is restarted.
"""

import logging
import os
import socket
import threading
import time
from collections import deque

from statsd import StatsClient

LOOK_UP_SECONDS = 60.0
"""Interval of look-ups: a recreated Service has another address."""
RETRY_SECONDS = 5.0
"""Pause after a failed look-up."""
FIRST_SECONDS = 3.0
"""Time that the first metric waits for the address: a task's process may end right after its last metric."""
KEPT_LINES = 1000
"""Metrics queued while there is no address; beyond that the oldest are dropped."""
log = logging.getLogger(__name__)


class RetryingStatsClient(StatsClient):  # type: ignore[misc]  # statsd has no types
    """Resolves the address in a thread, and queues metrics until there is one."""

    def __init__(self, host: str, port: int, prefix: str | None = None, ipv6: bool = False) -> None:
        # Without super().__init__(), which resolves the address.
        self._host, self._port, self._prefix = host, port, prefix
        self._family = socket.AF_INET6 if ipv6 else socket.AF_INET
        self._maxudpsize = 512
        self._sock = socket.socket(self._family, socket.SOCK_DGRAM)
        self._addr: tuple[object, ...] | None = None
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._next_look_up = 0.0
        self._looking, self._sending = threading.Lock(), threading.RLock()
        self._is_failing = False
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        """Replace locks that a thread of the parent may hold: it does not exist in this process."""
        self._looking, self._sending = threading.Lock(), threading.RLock()
        if not self._addr:
            self._next_look_up = 0.0

    def _send(self, data: str) -> None:
        self._lines.append(data)
        if time.monotonic() >= self._next_look_up and self._looking.acquire(blocking=False):
            self._start_look_up()
        self._send_lines()

    def _start_look_up(self) -> None:
        """Look up in a thread: without an answer from DNS this takes 10 seconds and more."""
        is_first = not self._next_look_up
        looking = threading.Thread(target=self._look_up, daemon=True, name="statsd-look-up")
        try:
            looking.start()
        except RuntimeError:  # the process is about to end
            self._looking.release()
            return
        if is_first:
            looking.join(FIRST_SECONDS)

    def _look_up(self) -> None:
        """Resolve the host; keep the last address if DNS does not answer."""
        try:
            found = socket.getaddrinfo(self._host, self._port, self._family, socket.SOCK_DGRAM)
            self._addr, self._next_look_up = found[0][4], time.monotonic() + LOOK_UP_SECONDS
            if self._is_failing:
                log.info("The StatsD server %s is resolved again, metrics are sent.", self._host)
            self._is_failing = False
        except OSError as error:
            self._next_look_up = time.monotonic() + RETRY_SECONDS
            if not self._is_failing:
                then = "the last address is used" if self._addr else f"the last {KEPT_LINES} metrics are kept"
                log.warning("The StatsD server %s cannot be resolved: %s; %s until it can.", self._host, error, then)
            self._is_failing = True
        finally:
            self._looking.release()
        self._send_lines()

    def _send_lines(self) -> None:
        with self._sending:  # keeps the order; reentrant for signal handlers
            while self._addr and self._lines:
                try:
                    self._sock.sendto(self._lines.popleft().encode("ascii"), self._addr)
                except (OSError, UnicodeError):
                    continue  # metrics are not resent, and never fail a task
