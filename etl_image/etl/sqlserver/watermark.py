"""T-SQL for the position of a pipeline in the ledger: its watermark, and the record of the source's transactions."""

from collections.abc import Mapping
from datetime import datetime

from etl.model.pipeline import Pipeline
from etl.model.version_kind import Version
from etl.model.window import Settled, Window
from etl.sqlserver.ledger import SETTLED, WATERMARK, is_of, utc
from etl.sqlserver.sql import quote_name, quote_names, quote_table, quote_text, quote_time, time_text

_WATERMARK, _SETTLED = map(quote_table, (WATERMARK, SETTLED))


def as_version(found: str | int) -> Version:
    """A version of the ledger, as `read_watermark` and `read_settled` select it."""
    return found if isinstance(found, int) else utc(found)


def read_watermark(pipeline: Pipeline) -> str:
    """The watermark of a pipeline, a time as text; no row before its first run."""
    return f"SELECT {_version_of(pipeline, 'value')} FROM {_WATERMARK} WHERE {is_of(pipeline)}"


def advance_watermark(pipeline: Pipeline, run_id: str, window: Window) -> str:
    """Move the watermark to the end of a window: forward only, and not if the window begins too late.

    A window that begins later than the look-back before the watermark leaves late commits before it unread. A day or a
    number stays where a run finds no higher one, and that counts as moved.
    """
    column, high = _column(pipeline, "value"), _version_literal(window.high)
    present = f"{column} {'<' if pipeline.version_kind == 'time' else '<='} {high}"
    if window.low is None:
        present = f"({column} IS NULL OR {present})"  # as where the version was a time before
    else:
        # The other way round than a window is planned: of a low version there is always a higher one.
        present += f" AND {column} >= {_version_literal(window.low + pipeline.reach)}"
    values = {"value": quote_time(window.time), "run_id": quote_text(run_id), "advanced_at": "SYSUTCDATETIME()"}
    if isinstance(window.high, int):
        values["value_number"] = high
    assignments = ", ".join(f"{quote_name(name)} = {value}" for name, value in values.items())
    return f"UPDATE {_WATERMARK} SET {assignments} WHERE {is_of(pipeline)} AND {present}"


def insert_watermark(pipeline: Pipeline, run_id: str, window: Window) -> str:
    """Set the first watermark, if there is none."""
    values = {
        "pipeline": quote_text(pipeline.name),
        "value": quote_time(window.time),
        "run_id": quote_text(run_id),
        "advanced_at": "SYSUTCDATETIME()",
    }
    if isinstance(window.high, int):
        values["value_number"] = str(window.high)
    return _insert_first(pipeline, _WATERMARK, values)


def read_settled(pipeline: Pipeline) -> str:
    """The row of a pipeline, value, pending, xmax; none before its first run."""
    value, pending = (_version_of(pipeline, name) for name in ("value", "pending"))
    return f"SELECT {value}, {pending}, [xmax] FROM {_SETTLED} WHERE {is_of(pipeline)}"


def write_settled(pipeline: Pipeline, run_id: str, settled: Settled, at: datetime) -> list[str]:
    """Update the row of a pipeline, then insert it if there was none; `at` is the time of versions that are numbers."""
    values = {"xmax": str(int(settled.xmax)), "run_id": quote_text(run_id)}
    for name, version in (("value", settled.value), ("pending", settled.pending)):
        if isinstance(version, int):
            values |= {name: quote_time(at), f"{name}_number": str(version)}
        else:
            values[name] = quote_time(version)
    assignments = ", ".join(f"{quote_name(name)} = {value}" for name, value in values.items())
    return [
        f"UPDATE {_SETTLED} SET {assignments} WHERE {is_of(pipeline)}",
        _insert_first(pipeline, _SETTLED, {"pipeline": quote_text(pipeline.name), **values}),
    ]


def _insert_first(pipeline: Pipeline, table: str, values: Mapping[str, str]) -> str:
    """Insert a row of literals, if the pipeline has none."""
    return (
        f"INSERT INTO {table} ({quote_names(values)}) SELECT {', '.join(values.values())}"
        f" WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE {is_of(pipeline)})"
    )


def _column(pipeline: Pipeline, name: str) -> str:
    """The column of a version: of numbers the one beside the time."""
    return quote_name(f"{name}_number" if pipeline.version_kind == "number" else name)


def _version_of(pipeline: Pipeline, name: str) -> str:
    """An expression: a version as the drivers read it exactly."""
    return _column(pipeline, name) if pipeline.version_kind == "number" else time_text(name)


def _version_literal(version: Version) -> str:
    return str(version) if isinstance(version, int) else quote_time(version)
