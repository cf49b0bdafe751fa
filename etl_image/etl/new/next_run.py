"""A pipeline's next run, as far as the sink decides it: its table, its columns, and the watermark."""

from dataclasses import replace

from etl.config.settings import Settings
from etl.errors import ConfigurationError, printable
from etl.model.pipeline import Pipeline
from etl.model.version_kind import Version
from etl.sqlserver import backfill, ledger, log_position, watermark
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.columns import SinkColumn, check_table, read_columns
from etl.sqlserver.connection import connect_sink
from etl.sqlserver.sink import Sink

FIRST, NEXT = "first run", "next run"


def next_run(settings: Settings, pipeline: Pipeline) -> tuple[str, str]:
    """Whether the next run is the first one, and what it does with the sink table."""
    if settings.sink_url is None:
        return FIRST, f"reads the whole table, and creates {pipeline.sink} unless it is there (SINK_URL is not set)"
    with connect_sink(settings, pipeline, pipeline.name) as sink:
        if pipeline.is_log and (position := _position(sink, pipeline)):
            return NEXT, f"reads into {pipeline.sink} every change of the write-ahead log from {position} on"
        since = _watermark(sink, pipeline)
        name = FIRST if since is None else NEXT
        found = read_columns(sink, [pipeline.sink])[pipeline.sink]
        if not found:
            return name, _creates(pipeline, since)
        added = backfill.lacking(pipeline, set(found))
        try:
            _check(pipeline, found, added)
        except ConfigurationError as error:
            return name, f"fails: {error}"
        unfilled = _unfilled(sink, pipeline)
        has_rows = bool(sink.rows(sink_sql.any_row(pipeline.sink)))
    return name, f"{_reads(pipeline, since, has_rows, added, unfilled)}{_changes(pipeline, added, unfilled)}"


def _watermark(sink: Sink, pipeline: Pipeline) -> Version | None:
    present = {name for (name,) in sink.rows(sink_sql.find_columns(ledger.WATERMARK))}
    if not present or (pipeline.version_kind == "number" and "value_number" not in present):
        return None
    rows = sink.rows(watermark.read_watermark(pipeline))
    return watermark.as_version(rows[0][0]) if rows and rows[0][0] is not None else None


def _position(sink: Sink, pipeline: Pipeline) -> str | None:
    """The position in the write-ahead log; None before the first run."""
    rows = sink.rows(log_position.read(pipeline)) if sink.exists(ledger.LOG_POSITION) else []
    return log_position.parse(rows[0]).lsn if rows else None


def _unfilled(sink: Sink, pipeline: Pipeline) -> list[str]:
    """The columns of the sink table that no run has filled yet."""
    if not sink.exists(ledger.BACKFILL):
        return []
    return [name for name, is_open in sink.rows(backfill.read_added(pipeline)) if is_open and name in pipeline.columns]


def _creates(pipeline: Pipeline, since: Version | None) -> str:
    if since is None or pipeline.mode == "replace":
        return f"creates {pipeline.sink} and reads the whole table"
    return (
        f"creates {pipeline.sink}, which is gone, and reads only what has changed after {since}; with full_refresh the"
        " whole table"
    )


def _check(pipeline: Pipeline, found: dict[str, SinkColumn], added: list[str]) -> None:
    """Raise ConfigurationError if the sink table does not take the rows, once the added columns are there."""
    table = sink_sql.sink_table(pipeline)
    columns = {name: column for name, column in table.columns.items() if name not in added}
    check_table(replace(table, columns=columns), found)


def _reads(pipeline: Pipeline, since: Version | None, has_rows: bool, added: list[str], unfilled: list[str]) -> str:
    fills = bool(unfilled) or any(name in pipeline.columns for name in added)
    if since is not None and pipeline.mode != "replace" and not fills:
        return f"reads into {pipeline.sink} what has changed after {since}, less the look-back"
    if since is not None:
        return f"reads the whole table into {pipeline.sink}{', if it has changed' if not fills else ''}"
    about = f"has rows: {_fate(pipeline)}" if has_rows else "is empty"
    return f"reads the whole table into {pipeline.sink}, which is there and {about}"


def _changes(pipeline: Pipeline, added: list[str], unfilled: list[str]) -> str:
    """The columns that it adds and fills, as the end of a sentence."""
    filled = [printable(name) for name in added if name in pipeline.columns]
    own = "".join(
        f"; adds {printable(name)} for {'the time of loads' if name == pipeline.loaded_at else 'marks'}"
        for name in added
        if name not in pipeline.columns
    )
    fills = f"; adds {', '.join(filled)} and fills {'it' if len(filled) == 1 else 'them'}" if filled else ""
    fills += f"; fills {', '.join(map(printable, unfilled))}" if unfilled else ""
    return fills + own


def _fate(pipeline: Pipeline) -> str:
    """The fate of rows that the sink table has already."""
    if not pipeline.key:
        return "all are exchanged"
    same = {
        "incremental": "those of the same key are updated where the source's version is later",
        "append": "those of the same key have to have the source's values",
        "replace": "those of the same key are updated where they differ",
    }[pipeline.mode]
    others = {"keep": "stay", "mark": "are marked", "delete": "are deleted"}[pipeline.deletes]
    when = "" if pipeline.mode == "replace" or pipeline.deletes == "keep" else " when keys are compared"
    shared = ", and those of other pipelines stay" if pipeline.own_key else ""
    return f"{same}, those that the source does not have {others}{when}{shared}"
