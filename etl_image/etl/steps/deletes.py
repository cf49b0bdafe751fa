"""Rows of the sink that the source does not have any more: deleted or marked, unless there are too many of them."""

from datetime import UTC, datetime

from etl.errors import DataError, TryAgainError
from etl.model.pipeline import TableName
from etl.postgres import compare_sql
from etl.postgres.checks import check_source
from etl.postgres.connection import connect_source
from etl.sqlserver import deletes_sql, ledger
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.sink import Sink
from etl.steps import missing
from etl.steps.context import StepContext
from etl.steps.merge import Loaded
from etl.storage.staging import Manifest

ALWAYS = 100
"""Rows that may be lost whatever `most_deleted` is: a share of a small table is a few rows."""
_ASKED_AT_ONCE, _INSERTED_AT_ONCE = 1000, 50


def compare(work: StepContext, sink: Sink, staging: TableName, table: TableName, manifest: Manifest) -> Loaded:
    """Delete or mark the rows of the sink whose key the source does not have, under the load lock; the caller commits.

    The keys in staging are older than the lock: another partition may have brought rows since. So the source is asked
    again for the keys that are absent, in a snapshot that is later than that of every row of the sink. Rows that no
    window reaches are brought, too, by way of the staging table `table`.
    Raises DataError for too many rows, TryAgainError if counts do not add up.
    """
    pipeline = work.pipeline
    before = sink.value(sink_sql.count_rows(pipeline.sink))
    standing = int(sink.value(deletes_sql.count_standing(pipeline)))
    absent = int(sink.value(deletes_sql.count_absent(pipeline, staging)))
    inserted = int(sink.value(ledger.count_inserted(pipeline, work.run_id)) or 0)
    copied = missing.copy(work, sink, staging, table)
    # Of the source's keys at most so many are new: those that the sink lacks, and those that this run has inserted.
    new = manifest.kept - (standing - absent) + inserted
    still_there = _still_there(work, sink, staging, _allowed(work, standing) + new) if absent else []
    for first in range(0, len(still_there), _INSERTED_AT_ONCE):
        _insert_keys(work, sink, staging, still_there[first : first + _INSERTED_AT_ONCE])
    gone = int(sink.value(deletes_sql.count_absent(pipeline, staging)))
    new_in_sink = min(inserted, standing - gone)
    check_loss(work, gone, standing - new_in_sink, manifest.kept + len(still_there))
    deleted, marked = remove_absent(work, sink, staging) if gone else (0, 0)
    brought = missing.write(work, sink, table, copied)
    after = sink.value(sink_sql.count_rows(pipeline.sink))
    if deleted + marked != gone or after != before + brought.inserted - deleted:
        raise TryAgainError(
            f"{work}: {gone} rows of {pipeline.sink} are gone, {deleted} were deleted, {marked} marked and"
            f" {brought.inserted} inserted, and of {before} rows there are {after}; nothing was changed."
        )
    present = sink.value(deletes_sql.count_present(pipeline, staging)) - len(still_there)
    unchanged = manifest.kept - brought.inserted - brought.updated
    return Loaded(brought.inserted, brought.updated, unchanged, present, deleted, marked, brought.adjusted)


def _still_there(work: StepContext, sink: Sink, staging: TableName, most: int) -> list[tuple[str, ...]]:
    """The keys, as text, that are absent from staging and that the source has.

    It asks for no more when the source lacks more than `most`: then nothing is deleted.
    """
    pipeline, found, gone = work.pipeline, [], 0
    absent = sink.batches(deletes_sql.find_absent(pipeline, staging), _ASKED_AT_ONCE)
    with connect_source(work.settings, pipeline, str(work)) as connection, connection.cursor() as cursor:
        source = check_source(pipeline, cursor).types
        for keys in absent:
            cursor.execute(compare_sql.has_keys(pipeline, [[str(text) for text in key] for key in keys], source))
            there = [keys[number] for (number,) in cursor.fetchall()]
            found += there
            gone += len(keys) - len(there)
            if gone > most:
                break
    for _ in absent:
        pass  # the connection takes no other statement before its rows are read
    return found


def _insert_keys(work: StepContext, sink: Sink, staging: TableName, keys: list[tuple[str, ...]]) -> None:
    types = [work.pipeline.types[name] for name in work.pipeline.key]
    condition = " OR ".join([f"({sink_sql.has_key(work.pipeline)})"] * len(keys))
    values = [int(text) if kind.is_integer else text for key in keys for kind, text in zip(types, key, strict=True)]
    sink.execute(deletes_sql.insert_keys(work.pipeline, staging, condition), *values)


def check_loss(work: StepContext, gone: int, before: int, after: int) -> None:
    """Raise DataError if the sink would lose more rows than one run may delete or mark, unless the run accepts it.

    It has had `before` rows, the source has `after`. A row whose key has changed is gone and is there with another, so
    the loss counts and not how many are gone: of a small table changes can be the keys of all rows. A source that is
    empty, or that is being loaded again, has fewer.
    """
    pipeline = work.pipeline
    if work.partition.accept_deletes or not gone or (after and before - after <= _allowed(work, before)):
        return
    why = (
        f"where there are {after} now, fewer by more than most_deleted ({pipeline.most_deleted:.0%}) allows"
        if after
        else f"the filter keeps no row of {pipeline.source}"
    )
    verb = "marked" if pipeline.deletes == "mark" else "deleted"
    raise DataError(
        f"{work}: {gone} of {before} rows of {pipeline.sink} are gone at the source, {why}: nothing was {verb}. Was"
        " the table truncated to be loaded again? Then run again when that is done. If the rows are really gone, run"
        " with accept_deletes."
    )


def _allowed(work: StepContext, standing: int) -> int:
    """By how many rows the sink may become smaller."""
    return standing if work.partition.accept_deletes else max(ALWAYS, int(work.pipeline.most_deleted * standing))


def remove_absent(work: StepContext, sink: Sink, staging: TableName) -> tuple[int, int]:
    """Delete or mark the rows that are absent from staging; returns how many were deleted, and how many marked."""
    changed = sink.change(deletes_sql.remove_absent(work.pipeline, staging, datetime.now(UTC)))
    return (0, changed) if work.pipeline.deletes == "mark" else (changed, 0)
