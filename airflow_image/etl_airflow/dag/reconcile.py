"""What must hold before the watermark moves: SQL checks in the sink, told in words where they fail."""

import logging
from datetime import UTC, datetime
from typing import Any, NamedTuple

from airflow.providers.common.compat.sdk import AirflowSkipException
from airflow.providers.microsoft.mssql.hooks.mssql import MsSqlHook
from airflow.sdk.exceptions import AirflowFailException
from etl.model.pipeline import Pipeline
from etl.model.window import Partition, Window, fingerprint
from etl.sqlserver import checks as sink_checks
from etl.sqlserver import sql as sink_sql

from etl_airflow import metrics
from etl_airflow.dag import settled
from etl_airflow.dag.hooks import SinkHook

Audit = dict[str, int]
"""Row counts of a partition by name, as in sink_sql.COUNTS."""
log = logging.getLogger(__name__)


class Problem(NamedTuple):
    """What does not add up: by how many rows, and in words."""

    rows: int
    told: str


def reconcile_run(pipeline: Pipeline, run_id: str, partitions: list[str], sink: str) -> dict[str, Any]:
    """Check the run and advance the watermark; returns its totals. `sink` is an Airflow connection.

    Raises AirflowFailException with every check that failed; the watermark then stays where it is, so the next run
    reads the same rows again. Raises AirflowSkipException where there is nothing to check.
    """
    if partitions == []:
        # The steps of a new run are skipped then, and this too. Those of a cleared run are removed, and this runs.
        raise AirflowSkipException(f"{pipeline.name}: plan found nothing to move, so there is nothing to reconcile.")
    hook = SinkHook(sink)
    planned = [Partition.model_validate_json(partition) for partition in partitions]
    window = planned[0].window
    audits = read_audit(pipeline, run_id, planned, hook)
    problems = [
        *check_audit(pipeline, planned, audits),
        *check_sink(pipeline, window, hook),
    ]
    totals = {name: sum(audit[name] for audit in audits.values()) for name in sink_sql.COUNTS}
    log.info("%s, run %s:\n%s", pipeline.name, run_id, as_table(audits, totals))
    metrics.reconciliation_difference(pipeline, sum(problem.rows for problem in problems))
    if problems:
        told = " ".join(problem.told for problem in problems)
        raise AirflowFailException(f"{pipeline.name} does not add up: {told} The watermark stays.")
    advanced = advance_watermark(pipeline, run_id, window, hook)
    if advanced:
        metrics.lag(pipeline, (datetime.now(UTC) - window.high).total_seconds())
    log.info("Everything adds up; the watermark %s.", f"is now {window.high}" if advanced else "stays")
    return {**totals, "partitions": len(audits), "watermark_advanced": advanced, "verdict": "adds up"}


def read_audit(pipeline: Pipeline, run_id: str, planned: list[Partition], hook: MsSqlHook) -> dict[str, Audit]:
    """The audit rows of what was planned: partition to counts. Rows of an earlier plan of the run do not count."""
    columns = ", ".join(sink_sql.quote_name(name) for name in sink_sql.COUNTS)
    rows = hook.get_records(
        f"SELECT [partition_id], [fingerprint], {columns} FROM {sink_sql.quote_table(sink_sql.AUDIT)}"
        " WHERE [pipeline] = %s AND [run_id] = %s",
        parameters=(pipeline.name, run_id),
    )
    found = {(row[0], row[1]): dict(zip(sink_sql.COUNTS, map(int, row[2:]), strict=True)) for row in rows}
    loaded = {partition.id: found.get((partition.id, fingerprint(pipeline, partition))) for partition in planned}
    return {name: audit for name, audit in loaded.items() if audit is not None}


def check_audit(pipeline: Pipeline, planned: list[Partition], audits: dict[str, Audit]) -> list[Problem]:
    """Partitions that are not in as planned or whose counts do not add up."""
    problems = [
        Problem(
            partition.expected_rows or 1,
            f"Partition {partition.id} was not loaded as it was planned: clear its tasks.",
        )
        for partition in planned
        if partition.id not in audits
    ]
    for name, audit in audits.items():
        sums = (
            ("extracted", ("kept", "dropped", "rejected")),
            ("kept", ("inserted", "updated", "unchanged")),
            ("kept", ("standing",)),
        )
        for whole, parts in sums:
            difference = abs(audit[whole] - sum(audit[part] for part in parts))
            if difference:
                told = " + ".join(f"{part} {audit[part]}" for part in parts)
                problems.append(Problem(difference, f"Partition {name}: {whole} {audit[whole]} is not {told}."))
    rejected = sum(audit["rejected"] for audit in audits.values())
    above = rejected - pipeline.tolerated_rejects
    if above > 0:
        told = f"{rejected} rows of the run were rejected, {pipeline.tolerated_rejects} are tolerated."
        problems.append(Problem(above, told))
    return problems


def check_sink(pipeline: Pipeline, window: Window, hook: MsSqlHook) -> list[Problem]:
    """What must never be in the sink, looked for among the versions of the window.

    What the sink's own constraints rule out is not looked for. The rows of the window are read once.
    """
    indexes = sink_checks.read_indexes(hook.get_records(sink_checks.find_indexes(pipeline.sink)))
    if advice := sink_checks.index_advice(sink_sql.sink_table(pipeline), indexes):
        log.warning(advice)
    required = [name for (name,) in hook.get_records(sink_checks.find_required(pipeline.sink))]
    lacking, unwanted = hook.get_first(sink_checks.count_breaches(pipeline, window, required))
    found = {"rows lack a required value": lacking, f"rows are not ({pipeline.filter})": unwanted}
    if not sink_checks.holds_keys_once(pipeline, indexes):
        found["keys stand more than once"] = hook.get_first(sink_checks.count_duplicate_keys(pipeline, window))[0]
    return [Problem(int(rows), f"In {pipeline.sink} {rows} {words}.") for words, rows in found.items() if rows]


def advance_watermark(pipeline: Pipeline, run_id: str, window: Window, hook: MsSqlHook) -> bool:
    """Move the watermark to the window's end, never back, and never over versions that no run has read.

    A window that does not begin the look-back before the watermark leaves late commits there unread.
    """
    table = sink_sql.quote_table(sink_sql.WATERMARK)
    high = sink_sql.quote_time(window.high)
    reaches = f" AND [value] >= {sink_sql.quote_time(window.low + pipeline.look_back)}" if window.low else ""
    update = (
        f"UPDATE {table} SET [value] = {high}, [run_id] = %s, [advanced_at] = SYSUTCDATETIME()"
        f" WHERE [pipeline] = %s AND [value] < {high}{reaches}"
    )
    insert = (
        f"INSERT INTO {table} ([pipeline], [value], [run_id], [advanced_at]) SELECT %s, {high}, %s, SYSUTCDATETIME()"
        f" WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE [pipeline] = %s)"
    )
    with hook.get_conn() as connection, connection.cursor() as cursor:
        moved = _change(cursor, update, run_id, pipeline.name)
        if not window.low:
            moved += _change(cursor, insert, pipeline.name, run_id, pipeline.name)
        if moved and window.settled:
            settled.write(pipeline, run_id, window.settled, cursor)
        connection.commit()
    return moved > 0


def _change(cursor: Any, statement: str, *parameters: str) -> int:
    """Change rows; returns how many, whatever triggers and the session's NOCOUNT say."""
    cursor.execute(f"SET NOCOUNT ON; {statement}; SELECT @@ROWCOUNT", parameters)
    return int(cursor.fetchone()[0])


def as_table(audits: dict[str, Audit], totals: Audit) -> str:
    """The audit rows and their sum as aligned text."""
    lines: list[tuple[str, ...]] = [("partition", *sink_sql.COUNTS)]
    lines += [(name, *(str(audit[count]) for count in sink_sql.COUNTS)) for name, audit in audits.items()]
    lines.append(("all", *(str(totals[count]) for count in sink_sql.COUNTS)))
    return "\n".join("  ".join(f"{cell:>10}" for cell in line) for line in lines)
