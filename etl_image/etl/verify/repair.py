"""Repair of what a verification found: rows that the sink lacks, or has with other values, come from the source again.

A row is written only if the sink still has what the verification saw. Nothing is deleted.
"""

import uuid
from collections.abc import Collection
from datetime import UTC, datetime

import structlog

from etl.config.settings import Settings
from etl.errors import DataError, TryAgainError
from etl.model.outcome import COUNTS
from etl.model.pipeline import Pipeline
from etl.model.table_name import TableName
from etl.model.window import Partition, Window
from etl.sqlserver import ledger, merge_sql, replace_sql, verify_sql
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.connection import connect_sink
from etl.sqlserver.sink import Sink
from etl.steps.context import StepContext
from etl.steps.load import prepare_tables, staging_name, staging_table
from etl.verify.compare import same_key
from etl.verify.confirm import CLASSED, chunks, parameters
from etl.verify.sides import Sides, kept_rows, sink_rows
from etl.verify.tables import Tables

KIND = "repair"
"""The begin of the partition's id in the audit rows of repairs."""
MOST, SHARE, ALWAYS = 10_000, 0.05, 100
"""Rows that a repair writes at most: that many, and that share of the source's; a share of a small table is few."""


def repair(sides: Sides, tables: Tables, source_rows: int) -> None:
    """Bring the rows of the faults from the source. Raises DataError for too many of them, and changes nothing."""
    pipeline = sides.pipeline
    # Mode append changes no row that is there.
    kinds = ("missing",) if pipeline.mode == "append" else ("missing", "older", "newer", "different")
    listed = ", ".join(f"'{kind}'" for kind in kinds)
    tables.rows(f"CREATE OR REPLACE TABLE faults AS SELECT * FROM {CLASSED} WHERE class IN ({listed})")
    number = int(tables.value("SELECT count(*) FROM faults"))
    if not number:
        return
    if not pipeline.key:
        raise DataError(f"{pipeline.name} has no key, so no row can be repaired; run it with full_refresh.")
    most = min(MOST, max(ALWAYS, int(SHARE * source_rows)))
    if number > most:
        raise DataError(
            f"{pipeline.name}: {number:,} of {source_rows:,} rows would be repaired, and {most:,} are allowed: nothing"
            " was changed. So many differ for a reason of their own; find it, then run with full_refresh."
        )
    structlog.get_logger().info("verify: repairs", rows=number)
    with connect_sink(sides.settings, pipeline, f"{pipeline.name}, repair") as sink:
        for keys in chunks(tables, "faults"):
            _repair(sides, tables, sink, keys)


def count_repaired(settings: Settings, pipeline: Pipeline, run_id: str) -> int:
    """The rows that repairs of this run have written, as the audit has them: also those of attempts that broke off."""
    with connect_sink(settings, pipeline, f"{pipeline.name}, repair") as sink:
        audits = sink.rows(ledger.read_audit(pipeline, run_id))
    written = [COUNTS.index(name) + 2 for name in ("inserted", "updated")]
    return sum(int(row[place]) for row in audits if str(row[0]).startswith(KIND) for place in written)


def _repair(sides: Sides, tables: Tables, sink: Sink, keys: list[tuple[str, ...]]) -> None:
    """Bring the rows of some keys, in one transaction with their audit row."""
    window = Window(high=datetime.now(UTC), refresh="all")
    partition = Partition(window=window, id=f"{KIND}{uuid.uuid4().hex[:10]}", keys=[list(key) for key in keys])
    work = StepContext(sides.pipeline, sides.run_id, partition, sides.settings)
    table = sink_sql.staging_table(work.pipeline, staging_name(work), prepare_tables(work, sink))
    with staging_table(work, sink, table) as staging:
        checksum = _copy(sides, sink, staging, partition)
        sink.lock(sink_sql.load_lock(work.pipeline), int(work.settings.sink_lock_timeout.total_seconds() * 1000))
        # No other session changes a row between the look and the statements.
        sink.rows(replace_sql.lock_table(work.pipeline))
        _leave_out_changed(sides, tables, sink, staging, keys)
        _apply(work, sink, staging, checksum)
        sink.commit()


def _copy(sides: Sides, sink: Sink, staging: TableName, partition: Partition) -> str:
    """Copy the rows that the source has by now; returns their checksum. Raises TryAgainError if not all arrive."""
    with kept_rows(sides.settings, sides.scope.whole, sides.run_id, partition.keys) as stream:
        sink.bulk_copy(staging, stream.schema, stream.counted())
    arrived = int(sink.value(sink_sql.count_rows(staging)))
    sink.commit()
    if stream.manifest is None or arrived != stream.manifest.kept:
        raise TryAgainError(
            f"{sides.pipeline.name}, repair: of {stream.rows} rows sent {arrived} arrived; none was applied."
        )
    return stream.manifest.checksum


def _leave_out_changed(
    sides: Sides, tables: Tables, sink: Sink, staging: TableName, keys: Collection[tuple[str, ...]]
) -> None:
    """Remove from staging the rows that the sink does not have as the verification saw them."""
    pipeline, of_chunk = sides.pipeline, set(keys)
    stream = sink_rows(sink, sides.scope, [parameters(pipeline, key) for key in keys])
    tables.create_rows("now_sink", stream)
    tables.keep(stream, "now_sink", "true")
    listed = ", ".join(f"f.{key}::VARCHAR" for key in tables.keys)
    found = tables.rows(
        f"SELECT {listed} FROM faults AS f LEFT JOIN now_sink AS n ON {same_key(tables, 'f', 'n')}"
        f" LEFT JOIN again_sink AS a ON {same_key(tables, 'f', 'a')} WHERE n.h IS DISTINCT FROM a.h"
    )
    # Of other chunks no row is in now_sink.
    changed = [key for key in found if key in of_chunk]
    if changed:
        log = structlog.get_logger()
        log.warning("verify: rows that changed in the sink meanwhile are left alone", rows=len(changed))
        values = [value for key in changed for value in parameters(pipeline, key)]
        sink.execute(verify_sql.delete_keys(pipeline, staging, len(changed)), *values)


def _apply(work: StepContext, sink: Sink, staging: TableName, checksum: str) -> None:
    """Update and insert the rows of staging, and write the audit row, which adds up or nothing is changed."""
    pipeline = work.pipeline
    rows = int(sink.value(sink_sql.count_rows(staging)))
    if pipeline.version:
        update = merge_sql.update_newer(pipeline, staging, work.partition)
    else:
        update = replace_sql.update_differing(pipeline, staging)
    updated = sink.change(update)
    inserted = sink.change(merge_sql.insert_missing(pipeline, staging, work.partition))
    unchanged = rows - updated - inserted
    if unchanged < 0:
        sink.rollback()
        raise TryAgainError(f"{work}: of {rows} rows {updated} were updated and {inserted} inserted; none was applied.")
    read = {"extracted": rows, "kept": rows, "standing": rows}
    written = {"inserted": inserted, "updated": updated, "unchanged": unchanged}
    statement = ledger.insert_audit(
        pipeline,
        work.run_id,
        work.partition.id,
        window=work.partition.window,
        counts=dict.fromkeys(COUNTS, 0) | read | written,
        fingerprint=work.fingerprint,
        checksum=checksum,
        loaded_at=datetime.now(UTC),
    )
    sink.execute(statement)
