"""Unsent lines of a task's log file."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from etl_airflow.task_logs.identity import Identity
from etl_airflow.task_logs.loki import Value

BATCH_BYTES = 1_000_000
"""Approximate size of a push; Loki accepts 4 MB."""
LINE_BYTES = 250_000
"""Loki refuses lines of more than 256 KB."""
OLDEST = timedelta(days=2)
"""Loki refuses a line three days older than the newest of its stream (half of its `max_chunk_age`). Lines that waited
longer than this get a later time in Loki; their own time is in the line, and is the one shown."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Batch:
    """Lines to push, and the position in the file after them."""

    values: list[Value]
    end: int


class LogFile:
    """A log file that Airflow writes, one JSON object a line. It is the buffer of lines that Loki does not have."""

    def __init__(self, file: Path, identity: Identity, offset: int) -> None:
        self.identity = identity
        self.lock = threading.Lock()
        """Held while lines of this file are sent to Loki, or are given up."""
        self.complete = False
        """No more lines are written to the file."""
        self.delivered = threading.Event()
        """Set when the file is complete and Loki has all of it."""
        self._file = file
        self._offset = offset
        self._newest = 0

    def next_batch(self, now: datetime) -> Batch | None:
        """The next lines; None if there are none. An incomplete line is left for later."""
        values: list[Value] = []
        size, newest, now_ns = 0, self._newest, nanoseconds(now)
        offset = self._offset
        for raw in self._read():
            size += len(raw)
            offset += len(raw)
            line, written = prepare(raw)
            # Strictly increasing: Loki keeps only one of two equal lines with equal times.
            newest = max(_bound(written or now_ns, now_ns), newest + 1)
            values.append((newest, line))
            if size >= BATCH_BYTES:
                break
        return Batch(values, offset) if values else None

    def advance(self, batch: Batch) -> None:
        """Continue after a batch that Loki has."""
        self._offset, self._newest = batch.end, batch.values[-1][0]

    def rest(self) -> Iterator[str]:
        """All lines that Loki does not have."""
        for raw in self._read():
            yield raw.decode("utf-8", errors="replace").rstrip("\n")

    def _read(self) -> Iterator[bytes]:
        try:
            with self._file.open("rb") as handle:
                if handle.seek(0, 2) < self._offset:  # truncated by a restarted trigger
                    self._offset = 0
                handle.seek(self._offset)
                for raw in handle:
                    if not (raw.endswith(b"\n") or self.complete):
                        return
                    yield raw
        except FileNotFoundError:  # deleted by a clean-up
            return


def nanoseconds(time: datetime) -> int:
    """A time in nanoseconds since 1970, exactly."""
    return nanoseconds_of(time - _EPOCH)


def nanoseconds_of(duration: timedelta) -> int:
    """A duration in nanoseconds, exactly."""
    return duration // timedelta(microseconds=1) * 1000


def prepare(raw: bytes) -> tuple[str, int | None]:
    """A line to send, cut to the size that Loki accepts, and its time."""
    text = raw.decode("utf-8", errors="replace").rstrip("\n")
    record = parse(text)
    line = text if len(raw) <= LINE_BYTES else _shorten(record, len(raw))
    return line, _time(record.get("timestamp"))


def parse(text: str) -> dict[str, Any]:
    """The fields of a line; a line that is not a JSON object becomes the event."""
    try:
        record = json.loads(text)
    except ValueError:
        return {"event": text}
    return record if isinstance(record, dict) else {"event": text}


def _shorten(record: dict[str, Any], size: int) -> str:
    """A line that is too long, without the end of its text and without long fields."""
    note = f"… [cut: the line had {size} bytes, Loki accepts {LINE_BYTES}]"
    event = str(record.get("event", ""))
    few = {name: record[name] for name in ("timestamp", "level", "logger") if name in record}
    short = {name: value for name, value in record.items() if name != "event" and len(str(value)) <= 1000}
    # A character may take six bytes in JSON, and there may be thousands of fields.
    for fields, characters in ((short, LINE_BYTES * 3 // 4), (short, LINE_BYTES // 8), (few, LINE_BYTES // 8)):
        line = json.dumps({"event": event[:characters] + note, **fields}, ensure_ascii=False)
        if len(line.encode(errors="replace")) <= LINE_BYTES:
            break
    return line


def _time(value: object) -> int | None:
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return nanoseconds(time if time.tzinfo else time.replace(tzinfo=UTC))


def _bound(written: int, now: int) -> int:
    """Time of a line in Loki: its own, if Loki accepts that."""
    return max(min(written, now), now - nanoseconds_of(OLDEST))
