"""Metrics of a step, over StatsD with tags in the InfluxDB form that Airflow also uses here."""

import fcntl
import os
import select
import socket
import struct
import termios
import time
from typing import Any, Self

import structlog

from etl.config.settings import Settings

_LONGEST_WAIT = 3.0
_PAUSE = 0.1
_LONGEST_ANSWER_MS = 10
"""Time that a refusal takes from another node, in milliseconds."""


class Metrics:
    """Counters of a step, sent as one datagram when the block ends without an error; not sent if no server is set.

    Metrics never fail a step, and delay it by no more than the look-up of the server's name and three seconds.
    """

    def __init__(self, settings: Settings, **tags: str) -> None:
        self._settings = settings
        self._tags = "".join(f",{name}={_tag(value)}" for name, value in tags.items())
        self._lines: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._settings.statsd_host:
            try:
                _send(self._settings.statsd_host, self._settings.statsd_port, "\n".join(self._lines).encode())
            except OSError as error:
                where = f"STATSD_HOST ({self._settings.statsd_host})"
                structlog.get_logger().warning(f"No metrics are sent: {where} cannot be reached: {error}")

    def rows(self, outcome: str, count: int) -> None:
        """Count rows by outcome: extracted, kept, dropped, rejected, inserted, updated, unchanged, deleted, marked."""
        self._lines.append(f"etl.rows{self._tags},outcome={outcome}:{count}|c")

    def bytes(self, count: int) -> None:
        """Count bytes written by the step."""
        self._lines.append(f"etl.bytes{self._tags}:{count}|c")

    def seconds(self, seconds: float) -> None:
        """Time the step. StatsD counts milliseconds; its exporter makes seconds of them again."""
        self._lines.append(f"etl.step_duration{self._tags}:{seconds * 1000:.3f}|ms")


def _send(host: str, port: int, datagram: bytes) -> None:
    """Send a datagram, and return when it has left and was not refused. Raises OSError.

    A cluster's NetworkPolicies include a pod only some seconds after it started, which may be all its life; until then
    the server's node refuses its packets.
    """
    deadline = time.monotonic() + _LONGEST_WAIT
    family, kind, protocol, _, address = _look_up(host, port, deadline)
    with socket.socket(family, kind, protocol) as sender:
        sender.connect(address)
        while True:
            sender.send(datagram)
            # The network of a pod ends with its process, and bytes that still wait there, such as for an address to be
            # resolved, are lost. The kernel reports how many there are.
            while _waiting(sender) and time.monotonic() < deadline:
                time.sleep(0.01)
            problem = _refusal(sender)
            if not problem:
                return
            if time.monotonic() >= deadline:
                raise OSError(problem, os.strerror(problem))
            time.sleep(_PAUSE)


def _look_up(host: str, port: int, deadline: float) -> tuple[int, int, int, str, tuple[Any, ...]]:
    """The server's address; DNS is retried until the deadline while it does not answer. Raises OSError."""
    while True:
        try:
            return socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        except socket.gaierror as error:
            if error.errno != socket.EAI_AGAIN or time.monotonic() >= deadline:
                raise
        time.sleep(_PAUSE)


def _waiting(sender: socket.socket) -> int:
    """Bytes sent that have not left the network of this machine or pod yet: SIOCOUTQ of udp(7)."""
    (count,) = struct.unpack("i", fcntl.ioctl(sender, termios.TIOCOUTQ, bytes(4)))
    return int(count)


def _refusal(sender: socket.socket) -> int:
    """The errno by which the other side refused the datagram; 0 if it did not."""
    poll = select.poll()
    poll.register(sender, 0)  # errors alone
    poll.poll(_LONGEST_ANSWER_MS)
    return sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _tag(value: str) -> str:
    return "".join(character if character.isalnum() or character in "._-" else "_" for character in value)
