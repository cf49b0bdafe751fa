"""`etl erase`: delete one row, by its key, from the sink and from staging, and list what else has it, and until when.

For requests of data subjects. It may be repeated at any time. Loads of the pipeline wait meanwhile; a load that is
running may hold the row, so erase is refused then.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import structlog

from etl.config.settings import Settings
from etl.errors import ConfigurationError, TryAgainError
from etl.model.pipeline import Pipeline
from etl.model.row_key import RowKey
from etl.model.window import Partition, Window
from etl.postgres import sql as source_sql
from etl.postgres.checks import check_source
from etl.postgres.connection import connect_source
from etl.sqlserver import ledger
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.connection import connect_to_prepare
from etl.sqlserver.sink import Sink
from etl.steps.context import StepContext

BACKUPS = timedelta(days=7)
"""How long a nightly backup is kept: the CronJobs keep seven."""
LOG_LINES = timedelta(days=30)
"""How long Loki keeps the logs of tasks: its `retention_period`."""
METADATA = timedelta(days=90)
"""How long Airflow's database keeps a run, by the CronJob airflow-clean."""


@dataclass(frozen=True)
class Erased:
    """Rows of the sink and partitions in staging that had the row, and sentences about what has it until it expires."""

    rows: int
    partitions: int
    remains: list[str]


def erase(settings: Settings, pipeline: Pipeline, key: str, *, dry_run: bool, ask_source: bool) -> Erased:
    """Delete the row, or with `dry_run` report what would be deleted. `key` is parsed by RowKey.

    Raises ConfigurationError if the source still has the row, which `ask_source` checks; TryAgainError while a load is
    running.
    """
    began = datetime.now(UTC)
    row_key = RowKey(pipeline, key)
    # Messages of this command mask the key, also if the pipeline does not.
    work = StepContext(pipeline.with_sensitive_key(), "erase", Partition(window=Window(high=began)), settings)
    if ask_source:
        _check_source(work, row_key)
    with connect_to_prepare(
        settings, database=settings.sink_database(), about="erase", autocommit=False, mask=work.mask
    ) as sink:
        sink.execute(sink_sql.session_of_load(settings.sink_lock_timeout))
        sink.lock(sink_sql.load_lock(pipeline), int(settings.sink_lock_timeout.total_seconds() * 1000))
        _drop_dead_loads(sink, pipeline, dry_run=dry_run)
        staged = _staged(work, row_key)
        rows = _count(sink, row_key)
        if not dry_run:
            if rows:
                _delete(sink, row_key)
            for folder in staged:
                work.staging.remove(folder)
            _record(sink, work, row_key, began, (rows, len(staged)), ask_source=ask_source)
            sink.commit()
        else:
            sink.rollback()
    erased = Erased(rows, len(staged), _remains(pipeline, began))
    _log_result(work.mask.row(row_key.texts), erased, dry_run=dry_run)
    return erased


def _check_source(work: StepContext, row_key: RowKey) -> None:
    with connect_source(work.settings, work.pipeline, str(work)) as connection, connection.cursor() as cursor:
        types = check_source(work.pipeline, cursor).types
        cursor.execute(source_sql.find_row(work.pipeline, row_key.texts, types))
        if cursor.fetchall():
            raise ConfigurationError(
                f"{work.pipeline.name}: {work.pipeline.source} still has this row, and a later run would bring it back."
                " Delete it there first; or say --even-if-at-source, where no run can read it any more."
            )


def _count(sink: Sink, row_key: RowKey) -> int:
    """How many rows of the sink have the key: one or none."""
    pipeline = row_key.pipeline
    if not sink.exists(pipeline.sink):
        return 0
    counted = f"{sink_sql.count_rows(pipeline.sink)} WHERE {sink_sql.has_key(pipeline)}"
    return int(sink.value(counted, *row_key.parameters))


def _delete(sink: Sink, row_key: RowKey) -> None:
    """Delete the row. Raises ConfigurationError if it is still there."""
    pipeline = row_key.pipeline
    where = f"{sink_sql.quote_table(pipeline.sink)} WHERE {sink_sql.has_key(pipeline)}"
    sink.execute(f"DELETE FROM {where}", *row_key.parameters)
    if _count(sink, row_key):
        raise ConfigurationError(
            f"{pipeline.name}: {pipeline.sink} still has the row after it was deleted, so a trigger there keeps it:"
            " have the trigger changed, and run this again. Nothing was erased."
        )


def _drop_dead_loads(sink: Sink, pipeline: Pipeline, *, dry_run: bool) -> None:
    """Drop staging tables of loads that ended. Raises TryAgainError while a load is running."""
    for table in sink.staging_tables(pipeline):
        if not sink.try_lock(sink_sql.staging_lock(table.table)):
            raise TryAgainError(
                f"{pipeline.name}: a load is under way, which may bring the row. Pause the DAG, and erase the row when"
                " its run has ended."
            )
        if not dry_run:
            sink.execute(sink_sql.drop_if_exists(table))


def _staged(work: StepContext, row_key: RowKey) -> list[str]:
    """The folders of partitions in staging that contain the row, or an incomplete file of a killed step."""
    masks = [work.mask.masked(name, text) for name, text in zip(work.pipeline.key, row_key.texts, strict=True)]
    staging = work.staging
    return [
        folder
        for folder in staging.partitions()
        if any(_has(work, path, row_key, masks) for path in staging.tables(folder))
    ]


def _has(work: StepContext, path: str, row_key: RowKey, masks: list[str]) -> bool:
    try:
        with work.staging.opened(path) as file:
            parquet = pq.ParquetFile(file)
            groups = range(parquet.num_row_groups)
            if path.rsplit("/", 2)[1] == "rejects":
                return any(row_key.is_among(parquet.read_row_group(each)["row"].to_pylist(), masks) for each in groups)
            keys = work.pipeline.key
            return any(row_key.is_in(parquet.read_row_group(each, columns=keys).select(keys)) for each in groups)
    except (ValueError, KeyError, TypeError):
        # An incomplete file (pa.ArrowInvalid), or one of an earlier pipeline of this name, with other columns.
        return True


def _record(
    sink: Sink, work: StepContext, row_key: RowKey, began: datetime, counts: tuple[int, int], *, ask_source: bool
) -> None:
    """Record the erasure, without the key; audit rows stay unchanged, so that they still add up."""
    table = ledger.erasure_table()
    if not sink.exists(table.name):
        sink.execute(sink_sql.create_table(table))
    rows, partitions = counts
    values: dict[str, str | int | datetime] = {
        "pipeline": work.pipeline.name,
        "erased_at": began,
        "row_mask": work.mask.row(row_key.texts)[:400],
        "rows_erased": rows,
        "partitions_erased": partitions,
        "source_asked": int(ask_source),
    }
    sink.execute(ledger.insert_erasure(values))
    sink.execute(ledger.prune_erasures(work.pipeline, began - work.settings.audit_retention))


def _remains(pipeline: Pipeline, began: datetime) -> list[str]:
    """Sentences about what has the row until it expires."""
    remains = [
        f"Nightly backups of the sink made before now have it, the last of them until {began + BACKUPS:%Y-%m-%d}. After"
        " a restore from one of them, erase it again.",
        "Copies of backups off the machine have it as long as the rules of their bucket keep them.",
    ]
    visible = [name for name in pipeline.key if name not in pipeline.sensitive]
    if visible:
        remains.append(
            f"Logs in Loki may name its key ({', '.join(visible)}) until {began + LOG_LINES:%Y-%m-%d}, and partitions"
            f" in Airflow's database until {began + METADATA:%Y-%m-%d} (its backups {BACKUPS.days} days longer): these"
            " columns are not declared sensitive."
        )
    return remains


def _log_result(row: str, erased: Erased, *, dry_run: bool) -> None:
    log = structlog.get_logger()
    done = "would be erased" if dry_run else "done"
    log.info(f"erase: {done}", row=row, rows=erased.rows, partitions=erased.partitions)
    for sentence in erased.remains:
        log.warning(sentence)
