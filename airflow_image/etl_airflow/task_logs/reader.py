"""An attempt's lines from Loki: all of them, in order, once, however many."""

import json
import re
from collections.abc import Generator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from etl_airflow.task_logs.identity import Identity
from etl_airflow.task_logs.log_file import nanoseconds, nanoseconds_of
from etl_airflow.task_logs.loki import Entry, Loki, LokiRefusedError, LokiUnavailableError

PAGE = 2000
"""Lines a query at most; Loki allows 5000."""
FIRST_PAGE = 50
"""So many of the longest lines are less than Loki sends at once; the next pages are as large as the lines allow."""
PAGE_BYTES = 4_000_000
MARGIN = timedelta(hours=1)
"""How far from the attempt's dates lines may be: clocks differ, and what waited for Loki is filed later."""
LONGEST = timedelta(days=28)
"""Loki answers no query over more than 30 days."""


def select(identity: Identity) -> str:
    """The LogQL query of an attempt's lines, with those of its triggers."""
    labels = ", ".join(f"{name}={_quote(value)}" for name, value in identity.labels.items())
    path = re.escape(identity.path) + r"(\.trigger.*)?"
    return f"{{{labels}}} | path=~{_quote(path)}"


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def time_range(ti: Any, now: datetime) -> tuple[datetime, datetime] | None:
    """When an attempt may have written lines; None where it has not begun. `ti` is Airflow's task instance."""
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
    """The attempt's lines, or what there is to say where there are none.

    Raises LokiUnavailableError at once where Loki does not answer; if it stops answering later, the last line says so.
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
            "Loki has no line of this attempt. Either it ended before it wrote one, or its lines are older than Loki"
            " keeps them, or its pod could not reach Loki."
        )
    try:
        for page in pages:
            yield from (entry.line for entry in page)
    except (LokiUnavailableError, LokiRefusedError) as error:
        yield sentence(f"The log goes on, but Loki stopped answering: {error}. Open it again later.", "error")


def read_pages(loki: Loki, query: str, start: int, end: int) -> Iterator[list[Entry]]:
    """Lists of lines in the order of time, none twice, none left out."""
    seen: set[Entry] = set()
    size = PAGE_BYTES // FIRST_PAGE
    while start < end:
        until = min(end, start + nanoseconds_of(LONGEST))
        # Always more lines than were seen of the first time already, so that every page brings something new.
        least = len(seen) + FIRST_PAGE
        page, limit = _query(loki, query, start, until, least, max(least, min(PAGE, PAGE_BYTES // size)))
        if fresh := [entry for entry in page if entry not in seen]:
            yield fresh
        if len(page) < limit:
            start, seen = until, set()
            continue
        size = sum(len(entry.line) for entry in page) // len(page) + 1
        # The next page begins with the time at which this one ended: there may be more lines of that time.
        start = page[-1].nanoseconds
        seen = {entry for entry in page if entry.nanoseconds == start}


def _query(loki: Loki, query: str, start: int, end: int, least: int, limit: int) -> tuple[list[Entry], int]:
    """A page, and how many lines it could have: the least where Loki does not manage more, as some are very long."""
    try:
        return loki.query(query, start, end, limit), limit
    except (LokiRefusedError, LokiUnavailableError):
        if limit == least:
            raise
    return loki.query(query, start, end, least), least


def sentence(text: str, level: str = "warning") -> str:
    """A line of our own, as Airflow's UI shows it."""
    return json.dumps({"timestamp": datetime.now(UTC).isoformat(), "level": level, "event": text})
