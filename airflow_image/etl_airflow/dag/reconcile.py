"""`reconcile`: checks the audit and the sink, and then advances the watermark."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import AirflowSkipException
from airflow.providers.microsoft.mssql.hooks.mssql import MsSqlHook
from airflow.sdk.exceptions import AirflowFailException
from etl.errors import ConfigurationError
from etl.model.outcome import Problem, as_table, check_audit, select_audits, total
from etl.model.pipeline import Pipeline
from etl.model.window import Partition, Window
from etl.sqlserver import backfill, ledger, watermark
from etl.sqlserver import checks as sink_checks
from etl.sqlserver import sql as sink_sql

from etl_airflow import metrics
from etl_airflow.dag import changes
from etl_airflow.dag.hooks import SinkHook
from etl_airflow.dag.log_reconcile import reconcile_log

log = logging.getLogger(__name__)


def reconcile_run(
    pipeline: Pipeline, run_id: str, partitions: list[str], sink: str, source: str = "source"
) -> dict[str, Any]:
    """Check the run and advance the watermark; returns its totals. `sink` and `source` are Airflow connections.

    Raises AirflowFailException with every failed check; the watermark then stays, so that the next run reads the same
    rows again. Raises AirflowSkipException if there is nothing to check.
    """
    if partitions == []:
        # In a new run Airflow skips this task with the steps. In a cleared run it removes the steps and runs this.
        raise AirflowSkipException(f"{pipeline.name}: plan found nothing to move, so there is nothing to reconcile.")
    hook = SinkHook(sink)
    planned = [Partition.model_validate_json(partition) for partition in partitions]
    window = planned[0].window
    try:
        pipeline = planned[0].completed(pipeline)
    except ConfigurationError as error:
        raise AirflowFailException(str(error)) from None
    if planned[0].log is not None:
        return reconcile_log(pipeline, run_id, planned, planned[0].log, hook, source)
    audits = select_audits(pipeline, planned, hook.get_records(ledger.read_audit(pipeline, run_id)))
    problems = [
        *check_audit(pipeline, planned, audits),
        *check_sink(pipeline, window, hook),
    ]
    log.info("%s, run %s:\n%s", pipeline.name, run_id, as_table(audits))
    metrics.gauge(metrics.RECONCILIATION_DIFFERENCE, pipeline, sum(problem.rows for problem in problems))
    if problems:
        text = " ".join(problem.text for problem in problems)
        raise AirflowFailException(f"{pipeline.name} does not add up: {text} The watermark stays.")
    if window.fills:
        hook.run(backfill.record_filled(pipeline, run_id))
    advanced = advance_watermark(pipeline, run_id, window, hook)
    if advanced:
        metrics.gauge(metrics.LAG, pipeline, lag(pipeline, window, datetime.now(UTC)))
    log.info("Everything adds up; the watermark %s.", f"is now {window.high}" if advanced else "stays")
    return {**total(audits), "partitions": len(audits), "watermark_advanced": advanced, "verdict": "adds up"}


def check_sink(pipeline: Pipeline, window: Window, hook: MsSqlHook) -> list[Problem]:
    """Count rows that must not be in the sink, among the versions of the window.

    NULLs and duplicate keys are counted only if the sink's constraints allow them. The window is read once.
    """
    indexes = sink_checks.read_indexes(hook.get_records(sink_checks.find_indexes(pipeline.sink)))
    if advice := sink_checks.index_advice(sink_sql.sink_table(pipeline), indexes):
        log.warning(advice)
    required = [name for (name,) in hook.get_records(sink_checks.find_required(pipeline.sink))]
    # A column that was added is null in rows that the source does not have any more.
    required += [name for name, _ in changes.read_added(pipeline, hook)]
    lacking, unwanted = hook.get_first(sink_checks.count_breaches(pipeline, window, required))
    found = {"rows lack a required value": lacking, f"rows are not ({pipeline.filter})": unwanted}
    if pipeline.key and not sink_checks.has_unique_key(pipeline, indexes):
        found["keys stand more than once"] = hook.get_first(sink_checks.count_duplicate_keys(pipeline, window))[0]
    return [Problem(int(rows), f"In {pipeline.sink} {rows} {problem}.") for problem, rows in found.items() if rows]


def advance_watermark(pipeline: Pipeline, run_id: str, window: Window, hook: MsSqlHook) -> bool:
    """Move the watermark to the window's end; returns whether it moved.

    It never moves back, nor over versions that no run has read.
    """
    with hook.get_conn() as connection, connection.cursor() as cursor:
        moved = _change(cursor, watermark.advance_watermark(pipeline, run_id, window))
        if window.low is None:
            moved += _change(cursor, watermark.insert_watermark(pipeline, run_id, window))
        if moved and window.settled:
            for statement in watermark.write_settled(pipeline, run_id, window.settled, window.time):
                cursor.execute(statement)
        connection.commit()
    return moved > 0


def lag(pipeline: Pipeline, window: Window, now: datetime) -> float:
    """Seconds since the end of a window; a day ends when it is over. In mode replace 0: the sink is what was read."""
    if pipeline.version is None:
        return 0.0
    end = window.time + timedelta(days=1) if pipeline.version_kind == "day" else window.time
    return max(0.0, (now - end).total_seconds())


def _change(cursor: Any, statement: str) -> int:
    """Run an INSERT or UPDATE; returns its row count, without the rows of triggers."""
    cursor.execute(f"SET NOCOUNT ON; {statement}; SELECT @@ROWCOUNT")
    return int(cursor.fetchone()[0])
