"""`reconcile` of a pipeline that reads the write-ahead log: the counts of the window, then the source's slot."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
from airflow.providers.common.compat.sdk import AirflowException
from airflow.sdk.exceptions import AirflowFailException
from etl.errors import printable
from etl.model.lsn import parse_lsn
from etl.model.outcome import Audit, Problem, as_table, check_audit, select_audits, total
from etl.model.pipeline import Pipeline
from etl.model.window import LOG, LogWindow, Partition
from etl.postgres import log_sql
from etl.sqlserver import backfill, ledger, log_position
from etl.sqlserver.log_position import LogPosition

from etl_airflow import metrics
from etl_airflow.dag.hooks import SinkHook, source_hook
from etl_airflow.dag.log_plan import read_position

log = logging.getLogger(__name__)


def reconcile_log(
    pipeline: Pipeline, run_id: str, planned: Sequence[Partition], window: LogWindow, hook: SinkHook, source: str
) -> dict[str, Any]:
    """Check the run; of a snapshot set the position; then let the source's slot follow it. Returns the totals.

    A run that was cleared after later ones is not checked: its rows have been replaced since.
    Raises AirflowFailException with every failed check; position and slot then stay.
    """
    position = read_position(pipeline, hook)
    partitions = list(planned)
    audits = select_audits(pipeline, partitions, hook.get_records(ledger.read_audit(pipeline, run_id)))
    is_of_log = planned[0].kind == LOG
    is_over = _is_over(run_id, window, position, is_of_log=is_of_log)
    log.info("%s, run %s:\n%s", pipeline.name, run_id, as_table(audits))
    if is_over and position is not None:
        log.info(
            "%s: already loaded: the sink is at %s, by run %s; this run, up to %s, changes nothing.",
            *(pipeline.name, position.lsn, position.run_id, window.high),
        )
    else:
        problems = check_audit(pipeline, partitions, audits)
        if is_of_log:
            problems += check_counts(window, position, audits)
        metrics.gauge(metrics.RECONCILIATION_DIFFERENCE, pipeline, sum(problem.rows for problem in problems))
        if problems:
            text = " ".join(problem.text for problem in problems)
            raise AirflowFailException(f"{pipeline.name} does not add up: {text} The slot stays.")
        if not is_of_log:
            _set_position(pipeline, run_id, window, hook)
            if planned[0].window.fills:
                hook.run(backfill.record_filled(pipeline, run_id))
            position = read_position(pipeline, hook)
        metrics.gauge(metrics.LAG, pipeline, max(0.0, (datetime.now(UTC) - planned[0].window.time).total_seconds()))
    reached = position.lsn if position else window.high
    advance_slot(pipeline, reached, source)
    log.info("Everything adds up; the sink is at %s of the log, and the source's slot with it.", reached)
    counts = position.counts if is_of_log and position is not None and not is_over else {}
    named = {f"log_{name}": counts[name] for name in ("inserts", "updates", "deletes", "truncates") if name in counts}
    return {**total(audits), **named, "partitions": len(audits), "position": reached, "verdict": "adds up"}


def _is_over(run_id: str, window: LogWindow, position: LogPosition | None, *, is_of_log: bool) -> bool:
    """Whether the position has moved since the plan, and not by this run: there is nothing to check any more."""
    if position is None or position.lsn == window.low:
        return False
    if is_of_log:
        return position.run_id != run_id
    # A snapshot sets the position once; plans of later runs move it over windows without changes.
    return not (position.run_id == run_id and position.low == window.low and position.lsn == window.high)


def check_counts(window: LogWindow, position: LogPosition | None, audits: dict[str, Audit]) -> list[Problem]:
    """Counts of the window that do not add up: its changes, images, kept images, and rows applied."""
    if position is None or not position.is_beyond(window):
        here = position.lsn if position else "not set"
        return [Problem(1, f"The position in the ledger is {here}, and the window ends at {window.high}.")]
    counts, audit = position.counts, audits.get(LOG)
    if audit is None or position.low != window.low:
        return []
    pairs = {
        "inserts + updates and images": (counts["inserts"] + counts["updates"], counts["images"]),
        "images and extracted": (counts["images"], audit["extracted"]),
        "kept images and kept": (counts["kept"], audit["kept"]),
        "applied + superseded and kept": (counts["applied"] + counts["superseded"], audit["kept"]),
    }
    return [
        Problem(abs(one - other), f"Of the log {what} differ: {one} and {other}.")
        for what, (one, other) in pairs.items()
        if one != other
    ]


def _set_position(pipeline: Pipeline, run_id: str, window: LogWindow, hook: SinkHook) -> None:
    """Set the position after a snapshot: from there on changes are read."""
    with hook.get_conn() as connection, connection.cursor() as cursor:
        for statement in log_position.write(pipeline, run_id, window, {}):
            cursor.execute(statement)
        connection.commit()


def advance_slot(pipeline: Pipeline, position: str, source: str) -> None:
    """Let the slot follow the position in the ledger; it is never moved back. `source` is an Airflow connection.

    Raises AirflowException if the slot is in use, AirflowFailException if it is not there any more.
    """
    slot = pipeline.slot_name
    try:
        with source_hook(source).get_conn() as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute(log_sql.find_slot(pipeline))
            found = cursor.fetchone()
            if found is None:
                raise AirflowFailException(
                    f"{pipeline.name}: the rows are in the sink, and the source has lost the replication slot {slot}:"
                    " `etl prepare-source` makes it; then run with full_refresh."
                )
            if found[-1] is None or parse_lsn(found[-1]) < parse_lsn(position):
                cursor.execute(log_sql.advance(pipeline, position))
    except (psycopg.errors.ObjectInUse, psycopg.errors.ObjectNotInPrerequisiteState) as error:
        words = printable(str(error).splitlines()[0])
        raise AirflowException(
            f"{pipeline.name}: the rows are in the sink, and the slot {slot} could not follow: {words}. Try again; the"
            " next plan does it, too."
        ) from None
