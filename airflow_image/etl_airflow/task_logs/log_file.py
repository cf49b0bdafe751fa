"""The lines of one task log file that Loki does not have yet."""

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
"""A push is about so large; Loki takes 4 MB."""
LINE_BYTES = 250_000
"""Loki refuses a line of more than 256 KB."""
OLDEST = timedelta(days=2)
"""Loki refuses a line that is three days behind the newest of its stream (half of its `max_chunk_age`). What had to
wait longer than this is filed under a later time; the line itself keeps its own, which is the one that is shown."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Batch:
    """Lines to push, and where the file is read on from once Loki has them."""

    values: list[Value]
    end: int


class LogFile:
    """A log file that Airflow writes, one JSON object a line. The file is the buffer: what Loki lacks waits in it."""

    def __init__(self, file: Path, identity: Identity, offset: int) -> None:
        self.identity = identity
        self.lock = threading.Lock()
        """Held while lines of this file are under way to Loki, or are given up."""
        self.complete = False
        """Nothing is written to the file any more."""
        self.delivered = threading.Event()
        """The file is complete and Loki has all of it."""
        self._file = file
        self._offset = offset
        self._newest = 0

    def next_batch(self, now: datetime) -> Batch | None:
        """The next lines; None where there are none. A line of which only a part is written yet is left for later."""
        values: list[Value] = []
        size, newest, now_ns = 0, self._newest, nanoseconds(now)
        offset = self._offset
        for raw in self._read():
            size += len(raw)
            offset += len(raw)
            line, written = prepare(raw)
            # Strictly increasing, since Loki keeps only one of two equal lines with equal times.
            newest = max(_bound(written or now_ns, now_ns), newest + 1)
            values.append((newest, line))
            if size >= BATCH_BYTES:
                break
        return Batch(values, offset) if values else None

    def advance(self, batch: Batch) -> None:
        """Loki has the batch."""
        self._offset, self._newest = batch.end, batch.values[-1][0]

    def rest(self) -> Iterator[str]:
        """All lines that Loki does not have."""
        for raw in self._read():
            yield raw.decode("utf-8", errors="replace").rstrip("\n")

    def _read(self) -> Iterator[bytes]:
        try:
            with self._file.open("rb") as handle:
                if handle.seek(0, 2) < self._offset:  # begun anew by a trigger that started again
                    self._offset = 0
                handle.seek(self._offset)
                for raw in handle:
                    if not (raw.endswith(b"\n") or self.complete):
                        return
                    yield raw
        except FileNotFoundError:  # tidied away
            return


def nanoseconds(time: datetime) -> int:
    """A time as Loki counts it, exactly."""
    return nanoseconds_of(time - _EPOCH)


def nanoseconds_of(duration: timedelta) -> int:
    """A duration, exactly."""
    return duration // timedelta(microseconds=1) * 1000


def prepare(raw: bytes) -> tuple[str, int | None]:
    """A line as it is sent, no longer than Loki takes, and the time it carries."""
    text = raw.decode("utf-8", errors="replace").rstrip("\n")
    record = parse(text)
    line = text if len(raw) <= LINE_BYTES else _shorten(record, len(raw))
    return line, _time(record.get("timestamp"))


def parse(text: str) -> dict[str, Any]:
    """The fields of a line; of one that is no JSON object, the text as its event."""
    try:
        record = json.loads(text)
    except ValueError:
        return {"event": text}
    return record if isinstance(record, dict) else {"event": text}


def _shorten(record: dict[str, Any], size: int) -> str:
    """The line without what made it too long: the end of its text, and fields that are long themselves."""
    note = f"… [cut: the line had {size} bytes, Loki takes {LINE_BYTES}]"
    event = str(record.get("event", ""))
    few = {name: record[name] for name in ("timestamp", "level", "logger") if name in record}
    short = {name: value for name, value in record.items() if name != "event" and len(str(value)) <= 1000}
    # A character may be six bytes of JSON, and there may be thousands of fields.
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
    """The time to file a line under: its own where Loki takes it."""
    return max(min(written, now), now - nanoseconds_of(OLDEST))
