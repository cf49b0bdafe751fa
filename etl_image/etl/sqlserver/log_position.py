"""The table `etl.log_position` of the ledger: up to where each pipeline has read the source's write-ahead log.

It moves in the transaction that changes the rows, and so it is the truth; the source's slot follows it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from etl.model.lsn import parse_lsn, write_lsn
from etl.model.outcome import LOG_COUNTS
from etl.model.pipeline import Pipeline
from etl.model.window import LogWindow, Origin
from etl.sqlserver.ledger import LOG_POSITION, is_of
from etl.sqlserver.sql import quote_name, quote_names, quote_table, quote_text, time_text

_TABLE = quote_table(LOG_POSITION)


class LogPosition(NamedTuple):
    """The position of a pipeline, what it belongs to, and the run that set it with the counts of its window."""

    lsn: str
    origin: Origin
    run_id: str
    low: str | None
    counts: dict[str, int]

    def is_at(self, window: LogWindow) -> bool:
        """Whether the window begins here."""
        return window.low == self.lsn and window.origin == self.origin

    def is_beyond(self, window: LogWindow) -> bool:
        """Whether the window has been loaded, or a later one of the same log."""
        return window.origin == self.origin and parse_lsn(self.lsn) >= parse_lsn(window.high)


def read(pipeline: Pipeline) -> str:
    """The row of a pipeline, for `parse`; none before its first run."""
    return (
        "SELECT [lsn], [system_identifier], [timeline], [publication], [run_id], [window_low],"
        f" {quote_names(LOG_COUNTS)} FROM {_TABLE} WHERE {is_of(pipeline)}"
    )


def read_times() -> str:
    """For each pipeline its name, and when its position was last moved or found to be the end of the log."""
    return f"SELECT [pipeline], {time_text('advanced_at')} FROM {_TABLE} ORDER BY [pipeline]"


def parse(row: Any) -> LogPosition:
    """A row of the result of `read`."""
    lsn, system, timeline, publication, run_id, low, *counts = row
    origin = Origin(system=str(system), timeline=int(timeline), publication=str(publication))
    counted = dict(zip(LOG_COUNTS, (int(each or 0) for each in counts), strict=True))
    return LogPosition(write_lsn(parse_lsn(str(lsn))), origin, str(run_id), low and str(low), counted)


def write(pipeline: Pipeline, run_id: str, window: LogWindow, counts: Mapping[str, int]) -> list[str]:
    """Put the end of a window in the place of the position, which the caller has read under the lock."""
    values = {
        "slot": quote_text(pipeline.slot_name),
        "lsn": quote_text(window.high),
        "system_identifier": quote_text(window.origin.system),
        "timeline": str(int(window.origin.timeline)),
        "publication": quote_text(window.origin.publication),
        "run_id": quote_text(run_id),
        "advanced_at": "SYSUTCDATETIME()",
        "window_low": "NULL" if window.low is None else quote_text(window.low),
        **{name: str(int(counts.get(name, 0))) for name in LOG_COUNTS},
    }
    assignments = ", ".join(f"{quote_name(name)} = {value}" for name, value in values.items())
    inserted = {"pipeline": quote_text(pipeline.name), **values}
    return [
        f"UPDATE {_TABLE} SET {assignments} WHERE {is_of(pipeline)}",
        f"INSERT INTO {_TABLE} ({quote_names(inserted)}) SELECT {', '.join(inserted.values())}"
        f" WHERE NOT EXISTS (SELECT 1 FROM {_TABLE} WHERE {is_of(pipeline)})",
    ]


def pass_over(pipeline: Pipeline, window: LogWindow) -> str:
    """Move the position over a window without changes, if it is still at the window's begin."""
    here = (
        f"[lsn] = {quote_text(window.low or '')} AND [system_identifier] = {quote_text(window.origin.system)}"
        f" AND [timeline] = {int(window.origin.timeline)}"
        f" AND [publication] = {quote_text(window.origin.publication)}"
    )
    return (
        f"UPDATE {_TABLE} SET [lsn] = {quote_text(window.high)}, [advanced_at] = SYSUTCDATETIME()"
        f" WHERE {is_of(pipeline)} AND {here}"
    )
