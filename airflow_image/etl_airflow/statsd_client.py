"""The StatsD client of Airflow's processes: DNS may answer late, and the exporter's address may change.

Named in [metrics] statsd_custom_client_path. The client of the library looks the address up once, when it is made.
Where DNS does not answer at that moment, as after a reboot, Airflow logs "Could not configure StatsClient … using
NoStatsLogger instead", and the process sends nothing until it is restarted.
"""

import logging
import os
import socket
import threading
import time
from collections import deque

from statsd import StatsClient

LOOK_UP_SECONDS = 60.0
"""How often the address is looked up: a Service that is made anew has another one."""
RETRY_SECONDS = 5.0
"""How long after a look-up that failed the next one begins."""
FIRST_SECONDS = 3.0
"""How long the first line waits for the address; a task may end, and its process with it, right after its last line."""
KEPT_LINES = 1000
"""How many lines are kept while there is no address. Then the oldest ones are dropped."""
log = logging.getLogger(__name__)


class RetryingStatsClient(StatsClient):  # type: ignore[misc]  # statsd has no types
    """Looks the address up beside the process's own work, again and again, and keeps lines until there is one."""

    def __init__(self, host: str, port: int, prefix: str | None = None, ipv6: bool = False) -> None:
        # Not what the library's own does: it looks the address up.
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
        """What another thread of the parent's was doing does not go on here, and would hold its lock for ever."""
        self._looking, self._sending = threading.Lock(), threading.RLock()
        if not self._addr:
            self._next_look_up = 0.0

    def _send(self, data: str) -> None:
        self._lines.append(data)
        if time.monotonic() >= self._next_look_up and self._looking.acquire(blocking=False):
            self._start_look_up()
        self._send_lines()

    def _start_look_up(self) -> None:
        """Look up in a thread: where DNS does not answer, that takes 10 seconds and more."""
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
        """Keep the address that DNS has for the host; the last one where it does not answer."""
        try:
            found = socket.getaddrinfo(self._host, self._port, self._family, socket.SOCK_DGRAM)
            self._addr, self._next_look_up = found[0][4], time.monotonic() + LOOK_UP_SECONDS
            if self._is_failing:
                log.info("The StatsD server %s is found again, metrics are sent.", self._host)
            self._is_failing = False
        except OSError as error:
            self._next_look_up = time.monotonic() + RETRY_SECONDS
            if not self._is_failing:
                then = "the last address is used" if self._addr else f"the last {KEPT_LINES} metrics are kept"
                log.warning("The StatsD server %s is not found: %s; %s until it is.", self._host, error, then)
            self._is_failing = True
        finally:
            self._looking.release()
        self._send_lines()

    def _send_lines(self) -> None:
        with self._sending:  # two threads at once would change the order; signal handlers come in too
            while self._addr and self._lines:
                try:
                    self._sock.sendto(self._lines.popleft().encode("ascii"), self._addr)
                except (OSError, UnicodeError):
                    continue  # metrics are sent once, and never fail what they measure
