"""Reading of an attempt's lines from Loki: all, in order, once."""

import json
import re
from collections.abc import Generator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from etl_airflow.task_logs.identity import Identity
from etl_airflow.task_logs.log_file import nanoseconds, nanoseconds_of
from etl_airflow.task_logs.loki import Entry, Loki, LokiRefusedError, LokiUnavailableError

PAGE = 2000
"""Maximum of lines per query; Loki allows 5000."""
FIRST_PAGE = 50
"""Lines of the first page: even the longest fit in a response of Loki; further pages depend on the lines' size."""
PAGE_BYTES = 4_000_000
MARGIN = timedelta(hours=1)
"""Margin around the attempt's dates: clocks differ, and lines that waited for Loki have a later time there."""
LONGEST = timedelta(days=28)
"""Loki refuses queries over more than 30 days."""


def select(identity: Identity) -> str:
    """The LogQL query of an attempt's lines, with those of its triggers."""
    labels = ", ".join(f"{name}={_quote(value)}" for name, value in identity.labels.items())
    path = re.escape(identity.path) + r"(\.trigger.*)?"
    return f"{{{labels}}} | path=~{_quote(path)}"


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def time_range(ti: Any, now: datetime) -> tuple[datetime, datetime] | None:
    """Time range of an attempt's lines; None before it begins. `ti` is Airflow's task instance."""
    begun = [time for time in (ti.queued_dttm, ti.start_date) if time]
    if not begun:
        return None
    run = getattr(ti, "dag_run", None)
    start = min([*begun, *filter(None, [run and run.start_date])])
    ended = None if is_unfinished(ti) else ti.end_date
    end = max(ended, *begun) if ended else now
    return start - MARGIN, end + MARGIN


def is_unfinished(ti: Any) -> bool:
    """Whether the attempt may still write lines."""
    return str(ti.state) in ("running", "queued", "deferred", "restarting", "up_for_reschedule", "awaiting_input")


def read(loki: Loki, identity: Identity, ti: Any) -> Generator[str, None, None]:
    """The attempt's lines, or a sentence why there are none.

    Raises LokiUnavailableError at once if Loki does not answer; if it stops answering later, the last line says so.
    """
    period = time_range(ti, datetime.now(UTC))
    if period is None:
        return (_ for _ in ())
    start, end = (nanoseconds(time) for time in period)
    pages = read_pages(loki, select(identity), start, end)
    try:
        first = next(pages, [])
    except LokiRefusedError as error:
        raise LokiUnavailableError(str(error)) from error
    return _lines(first, pages, finished=not is_unfinished(ti))


def _lines(first: list[Entry], pages: Iterator[list[Entry]], *, finished: bool) -> Generator[str, None, None]:
    yield from (entry.line for entry in first)
    if not first and finished:
        yield sentence(
            "Loki has no line of this attempt: it ended before it wrote one, its lines are beyond Loki's retention,"
            " or its pod could not reach Loki."
        )
    try:
        for page in pages:
            yield from (entry.line for entry in page)
    except (LokiUnavailableError, LokiRefusedError) as error:
        yield sentence(f"The log continues, but Loki stopped answering: {error}. Open it again later.", "error")


def read_pages(loki: Loki, query: str, start: int, end: int) -> Iterator[list[Entry]]:
    """Pages of lines by time, without duplicates or gaps."""
    seen: set[Entry] = set()
    size = PAGE_BYTES // FIRST_PAGE
    while start < end:
        until = min(end, start + nanoseconds_of(LONGEST))
        # More lines than were already read of the first time, so that every page has new ones.
        least = len(seen) + FIRST_PAGE
        page, limit = _query(loki, query, start, until, least, max(least, min(PAGE, PAGE_BYTES // size)))
        if fresh := [entry for entry in page if entry not in seen]:
            yield fresh
        if len(page) < limit:
            start, seen = until, set()
            continue
        size = sum(len(entry.line) for entry in page) // len(page) + 1
        # The next page begins with the last time of this one: there may be more lines of that time.
        start = page[-1].nanoseconds
        seen = {entry for entry in page if entry.nanoseconds == start}


def _query(loki: Loki, query: str, start: int, end: int, least: int, limit: int) -> tuple[list[Entry], int]:
    """A page, and its limit: reduced to `least` if Loki fails with more, as lines may be very long."""
    try:
        return loki.query(query, start, end, limit), limit
    except (LokiRefusedError, LokiUnavailableError):
        if limit == least:
            raise
    return loki.query(query, start, end, least), least


def sentence(text: str, level: str = "warning") -> str:
    """A message to the user as a log line."""
    return json.dumps({"timestamp": datetime.now(UTC).isoformat(), "level": level, "event": text})
