"""The plan of mode replace: one partition with all rows, unless nothing has changed since the last."""

import logging
from datetime import datetime
from typing import Any

from airflow.providers.microsoft.mssql.hooks.mssql import MsSqlHook
from etl.errors import ConfigurationError
from etl.model.pipeline import Pipeline
from etl.model.window import Partition, Window
from etl.postgres.compare_sql import content_hash
from etl.sqlserver import ledger, own_rows, replaced
from etl.sqlserver import sql as sink_sql

from etl_airflow import metrics

_OF_WINDOWS = ("since", "until", "accept_older_versions")
log = logging.getLogger(__name__)


def plan_replacement(
    pipeline: Pipeline, params: dict[str, Any], hook: MsSqlHook, cursor: Any, end: datetime, *, fills: bool = False
) -> list[Partition]:
    """The partition of a run, none if the source is as it was. `cursor` reads a snapshot of the source, as of `end`.

    `fills`: the run fills columns that were added, which its reconciliation records.

    One partition, because several would be several snapshots: a row whose key changes could be in none of them.
    Raises ConfigurationError for Params that choose a window.
    """
    if given := [name for name in _OF_WINDOWS if params.get(name)]:
        raise ConfigurationError(
            f"{given[0]} chooses versions, and {pipeline.name} has none: mode replace reads all rows. Run without it."
        )
    cursor.execute(content_hash(pipeline))
    rows, hashed, _ = cursor.fetchone()
    latest = _reconciled(pipeline, hook)
    if latest and not params.get("full_refresh"):
        (in_sink,) = hook.get_first(own_rows.count_own(pipeline))
        if replaced.is_same(pipeline, latest, rows, hashed, int(in_sink)):
            log.info(
                "%s: nothing changed: the %d rows of %s are those that run %s read at %s; full_refresh reads all.",
                *(pipeline.name, rows, pipeline.source, latest.run_id, latest.read_at),
            )
            metrics.gauge(metrics.LAG, pipeline, 0.0)
            return []
    log.info("%s: all %d rows of %s are read in one partition.", pipeline.name, rows, pipeline.source)
    window = Window(high=end, fills=fills)
    return [Partition(window=window, id="0001", expected_rows=rows, accept_deletes=bool(params.get("accept_deletes")))]


def _reconciled(pipeline: Pipeline, hook: MsSqlHook) -> replaced.Replaced | None:
    """The last replacement that was reconciled."""
    if any(hook.get_first(sink_sql.find_table(table))[0] is None for table in (ledger.REPLACED, pipeline.sink)):
        return None
    found = hook.get_first(replaced.find_reconciled(pipeline))
    return None if found is None else replaced.parse(found)
