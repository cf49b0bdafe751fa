"""Follower of a pod's log: copies its lines to the task's log while it runs, each once, with time and fields."""

import json
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Protocol

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

READ_TIMEOUT = (10, 300)
"""Seconds to connect, and of silence after which the log is requested again."""
OVERLAP_SECONDS = 60
"""Overlap when reading again after an interruption, as clocks differ; lines already read are skipped."""
_LAST_TRIES = 5
# Field names with a meaning for the logger or for Airflow's supervisor.
_RESERVED = frozenset(
    {"self", "method_name", "logger_name", "positional_args", "exc_info", "stack_info", "exception", "trigger_id"}
)
_TIME_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "warn": 30, "error": 40, "critical": 50, "fatal": 50}


class Log(Protocol):
    """A task's structured logger."""

    def log(self, level: int, event: Any, *args: Any, **kw: Any) -> Any:
        """Write a line."""


class Follower:
    """Follows the log of one container until its end. The provider's follower repeats lines after an interruption.

    `read(seconds, has_ended)` yields the container's log in pieces: of the last seconds or, with None, from the
    beginning; it need not wait for more if the container has ended. `ended`: whether the container has ended.
    """

    def __init__(
        self,
        read: Callable[[int | None, bool], Iterable[bytes]],
        ended: Callable[[], bool],
        write: Callable[[str, str], object],
        pause: float = 0.1,
    ) -> None:
        self._read, self._ended, self._write, self._pause = read, ended, write, pause
        self._first, self._last, self._at_last = "", "", 0
        self._to_skip: int | None = None
        self._received = time.monotonic()

    def follow(self) -> str:
        """Write every line once; returns the error that kept the last ones from being read, else empty."""
        failed = 0
        while True:
            # Checked before reading: a log read after the end is complete.
            ended, problem = self._ended(), ""
            try:
                for time_stamp, line in split(self._read(self._resume(), ended), whole=ended):
                    self._take(time_stamp, line)
            except (HTTPError, ApiException) as error:
                problem = f"{type(error).__name__}: {getattr(error, 'reason', None) or error}"
            failed = failed + 1 if ended else 0
            if ended and (not problem or failed >= _LAST_TRIES):
                return problem
            time.sleep(self._pause)

    @property
    def times(self) -> list[datetime]:
        """Times of the first and last line; empty without lines."""
        return [datetime.fromisoformat(time_stamp) for time_stamp in (self._first, self._last) if time_stamp]

    def _resume(self) -> int | None:
        """Seconds to read back; None (all) the first time."""
        if not self._last:
            return None
        self._to_skip = self._at_last
        by_clock = (datetime.now(UTC) - datetime.fromisoformat(self._last)).total_seconds()
        return math.ceil(max(by_clock, time.monotonic() - self._received)) + OVERLAP_SECONDS

    def _take(self, time_stamp: str, line: str) -> None:
        if time_stamp and self._to_skip is not None:
            if time_stamp < self._last:
                return
            if time_stamp == self._last and self._to_skip > 0:  # lines of equal time always come in the same order
                self._to_skip -= 1
                return
            self._to_skip = None
        if time_stamp > self._last:
            self._last, self._at_last = time_stamp, 1
        elif time_stamp == self._last:
            self._at_last += 1
        self._received = time.monotonic()
        self._first = self._first or time_stamp
        self._write(time_stamp, line)


def split(pieces: Iterable[bytes], *, whole: bool) -> Iterator[tuple[str, str]]:
    """Time stamp and text of each line of the kubelet's log (timestamps=True).

    A rest without a newline counts as a line only if the log is `whole`: else it was cut off, and is read again.
    """
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from map(_parse, lines)
    if whole and rest:
        yield _parse(rest)


def _parse(raw: bytes) -> tuple[str, str]:
    line = raw.decode("utf-8", errors="backslashreplace")
    time_stamp, _, text = line.partition(" ")
    if made := _in_utc(time_stamp):
        return made, text
    return "", line  # a message of the kubelet itself


def _in_utc(time_stamp: str) -> str:
    """A time stamp of the kubelet in UTC; empty if it is none.

    The kubelet uses the node's zone and omits trailing zeros. In one zone and of one length, they compare as text.
    """
    found = _TIME_STAMP.fullmatch(time_stamp)
    try:
        seconds = datetime.fromisoformat(f"{found[1]}{found[3]}").astimezone(UTC) if found else None
    except (ValueError, OverflowError):
        return ""
    return f"{seconds:%Y-%m-%dT%H:%M:%S}.{found[2] or '':0<9}Z" if found and seconds else ""


def fields_of(line: str) -> dict[str, Any]:
    """The fields of a log line of `etl`; any other line becomes the `event`."""
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    return record if isinstance(record, dict) and isinstance(record.get("event"), str) else {"event": line}


def write_line(log: Log, line: str, time_stamp: str | None = None) -> str:
    """Log a line of `etl` with level, time and fields, any other line unchanged; returns its text."""
    fields = {(f"{name}_" if name in _RESERVED else name): value for name, value in fields_of(line).items()}
    event, level = str(fields.pop("event")), str(fields.pop("level", "info")).lower()
    if written := _time(str(fields.pop("timestamp", ""))) or _time(time_stamp):
        fields["timestamp"] = written
    log.log(_LEVELS.get(level, _LEVELS["info"]), event, **fields)
    return event


def _time(text: str | None) -> str | None:
    """A time in the format of Airflow's supervisor; None if it is none."""
    try:
        time_ = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time_.astimezone(UTC).isoformat().replace("+00:00", "Z") if time_.tzinfo else None
