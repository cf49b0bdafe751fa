"""The state of the sink and its ledger before a verification reads rows, and what is due by it."""

from typing import Any

from etl.errors import ConfigurationError
from etl.model.pipeline import Pipeline
from etl.model.version_kind import Version, before
from etl.sqlserver import backfill, ledger, replaced, watermark
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.sink import Sink
from etl.verify.scope import Mode, Scope, choose_columns


def read_scope(pipeline: Pipeline, mode: Mode, sink: Sink) -> tuple[Scope, Version | None]:
    """The scope of a verification, and the watermark; `is_settled` is not decided yet.

    Raises ConfigurationError where nothing was loaded yet.
    """
    present = {name for (name,) in sink.rows(sink_sql.find_columns(pipeline.sink))}
    if not present:
        raise ConfigurationError(
            f"{pipeline.name}: there is no table {pipeline.sink} in the sink, so there is nothing to verify: switch"
            f" the DAG {pipeline.name}_etl on, and verify it after its first run."
        )
    is_open = set()
    if sink.exists(ledger.BACKFILL):
        is_open = {name for name, is_open in sink.rows(backfill.read_added(pipeline)) if is_open}
    unfilled = tuple(name for name in pipeline.columns if name in is_open or name not in present)
    high, low = _due(pipeline, sink)
    columns = choose_columns(pipeline, mode, unfilled)
    has_mark = present.issuperset(sink_sql.mark_names(pipeline))
    return Scope(pipeline, mode, columns, unfilled, low, has_mark), high


def read_replaced(pipeline: Pipeline, sink: Sink) -> replaced.Replaced | None:
    """The rows of the source by which the last run of mode replace has replaced those of the sink."""
    if pipeline.mode != "replace" or not (sink.exists(ledger.REPLACED) and sink.exists(ledger.WATERMARK)):
        return None
    found = sink.rows(replaced.find_reconciled(pipeline))
    return replaced.parse(found[0]) if found else None


def _due(pipeline: Pipeline, sink: Sink) -> tuple[Version | None, Version | None]:
    """The watermark, and the version after which the next run reads again; None before the first run."""
    if pipeline.version is None or not sink.exists(ledger.WATERMARK):
        return None, None
    high = _first(sink, watermark.read_watermark(pipeline))
    if high is None:
        return None, None
    # Open transactions of the source may commit rows from then on, which runs read again until these have ended.
    settled = _first(sink, watermark.read_settled(pipeline)) if sink.exists(ledger.SETTLED) else None
    begin = high if settled is None else min(high, settled)
    return high, before(begin, pipeline.reach)


def _first(sink: Sink, statement: str) -> Any:
    """The version in the first column of a row; None where there is no row or no value."""
    found = sink.rows(statement)
    return watermark.as_version(found[0][0]) if found and found[0][0] is not None else None
