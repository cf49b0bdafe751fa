"""`etl erase`: one row, by its key, out of the sink and of staging; and what else still has it, until when.

For a person who asks for that. It may be repeated at any time. Loads of the pipeline wait meanwhile; what they have
under way may hold the row, so it is refused while one is.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import structlog

from etl.config.settings import Settings
from etl.errors import ConfigurationError, TryAgainError
from etl.model.pipeline import Pipeline, TableName
from etl.model.row_key import RowKey
from etl.model.window import Partition, Window
from etl.postgres import sql as source_sql
from etl.postgres.checks import check_source
from etl.postgres.connection import connect_source
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.connection import Sink, connect_to_prepare
from etl.steps.context import StepContext

BACKUPS = timedelta(days=7)
"""How long a nightly backup is kept, while there is one every night: as many as the CronJobs say."""
LOG_LINES = timedelta(days=30)
"""How long Loki keeps the lines of tasks, as its `retention_period` says."""
METADATA = timedelta(days=90)
"""How long Airflow's database keeps what it has of a run, as the CronJob airflow-clean says."""


@dataclass(frozen=True)
class Erased:
    """How many rows of the sink and how many partitions in staging had the row, and what can only age."""

    rows: int
    partitions: int
    remains: list[str]


def erase(settings: Settings, pipeline: Pipeline, key: str, *, dry_run: bool, ask_source: bool) -> Erased:
    """Remove the row, or say what would be removed. `key` is as RowKey reads it.

    Raises ConfigurationError where the source still has the row, unless that is not to be asked; TryAgainError while a
    load is under way.
    """
    began = datetime.now(UTC)
    wanted = RowKey(pipeline, key)
    # In what is said here no key is shown, whatever the pipeline says.
    work = StepContext(pipeline.with_sensitive_key(), "erase", Partition(window=Window(high=began)), settings)
    if ask_source:
        _check_source(work, wanted)
    with connect_to_prepare(
        settings, database=settings.sink_database(), about="erase", autocommit=False, mask=work.mask
    ) as sink:
        sink.execute("SET XACT_ABORT ON")
        sink.lock(sink_sql.load_lock(pipeline), int(settings.sink_lock_timeout.total_seconds() * 1000))
        _drop_dead_loads(sink, pipeline, dry_run=dry_run)
        staged = _staged(work, wanted)
        rows = _count(sink, wanted)
        if not dry_run:
            if rows:
                _delete(sink, wanted)
            for folder in staged:
                work.staging.remove(folder)
            _record(sink, work, wanted, began, (rows, len(staged)), ask_source=ask_source)
            sink.commit()
        else:
            sink.rollback()
    erased = Erased(rows, len(staged), _remains(pipeline, began))
    _tell(work.mask.row(wanted.texts), erased, dry_run=dry_run)
    return erased


def _check_source(work: StepContext, wanted: RowKey) -> None:
    with connect_source(work.settings, work.pipeline, str(work)) as connection, connection.cursor() as cursor:
        check_source(work.pipeline, cursor)
        cursor.execute(source_sql.find_row(work.pipeline, wanted.texts))
        if cursor.fetchall():
            raise ConfigurationError(
                f"{work.pipeline.name}: {work.pipeline.source} still has this row, and a later run would bring it back."
                " Delete it there first; or say --even-if-at-source, where no run can read it any more."
            )


def _count(sink: Sink, wanted: RowKey) -> int:
    """How many rows of the sink have the key: one, or none."""
    pipeline = wanted.pipeline
    if not sink.exists(pipeline.sink):
        return 0
    counted = f"{sink_sql.count_rows(pipeline.sink)} WHERE {sink_sql.has_key(pipeline)}"
    return int(sink.value(counted, *wanted.parameters))


def _delete(sink: Sink, wanted: RowKey) -> None:
    """Delete the row. Raises ConfigurationError where it is there nevertheless."""
    pipeline = wanted.pipeline
    where = f"{sink_sql.quote_table(pipeline.sink)} WHERE {sink_sql.has_key(pipeline)}"
    sink.execute(f"DELETE FROM {where}", *wanted.parameters)
    if _count(sink, wanted):
        raise ConfigurationError(
            f"{pipeline.name}: {pipeline.sink} still has the row after it was deleted, so a trigger there keeps it:"
            " have the trigger changed, and run this again. Nothing was erased."
        )


def _drop_dead_loads(sink: Sink, pipeline: Pipeline, *, dry_run: bool) -> None:
    """Drop the tables that bulk loads have left, which have rows too. Raises TryAgainError where a load still lives."""
    names = sink.rows("SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = ?", sink_sql.STAGING)
    for (name,) in names:
        match = sink_sql.STAGING_NAME.fullmatch(name)
        if not match or match["pipeline"] != pipeline.name:
            continue
        if not sink.try_lock(sink_sql.staging_lock(name)):
            raise TryAgainError(
                f"{pipeline.name}: a load is under way, which may bring the row. Pause the DAG, and erase the row when"
                " its run has ended."
            )
        if not dry_run:
            sink.execute(
                f"DROP TABLE IF EXISTS {sink_sql.quote_table(TableName(schema_name=sink_sql.STAGING, table=name))}"
            )


def _staged(work: StepContext, wanted: RowKey) -> list[str]:
    """The folders of partitions in staging that have the row, or that a killed step has left half written."""
    masks = [work.mask.masked(name, text) for name, text in zip(work.pipeline.key, wanted.texts, strict=True)]
    staging = work.staging
    return [
        folder
        for folder in staging.partitions()
        if any(_has(work, path, wanted, masks) for path in staging.tables(folder))
    ]


def _has(work: StepContext, path: str, wanted: RowKey, masks: list[str]) -> bool:
    try:
        with work.staging.opened(path) as file:
            parquet = pq.ParquetFile(file)
            groups = range(parquet.num_row_groups)
            if path.rsplit("/", 2)[1] == "rejects":
                return any(wanted.is_among(parquet.read_row_group(each)["row"].to_pylist(), masks) for each in groups)
            keys = work.pipeline.key
            return any(wanted.is_in(parquet.read_row_group(each, columns=keys).select(keys)) for each in groups)
    except (ValueError, KeyError, TypeError):
        # Half a file (pa.ArrowInvalid is among them), or one of an earlier pipeline of this name, with other columns.
        return True


def _record(
    sink: Sink, work: StepContext, wanted: RowKey, began: datetime, counts: tuple[int, int], *, ask_source: bool
) -> None:
    """A row beside the audit's, without the key: loads' own rows stay as they are, and add up as they did."""
    table = sink_sql.erasure_table()
    if not sink.exists(table.name):
        sink.execute(sink_sql.create_table(table))
    rows, partitions = counts
    values = {
        "pipeline": work.pipeline.name,
        "erased_at": sink_sql.time_literal(began),
        "row_mask": work.mask.row(wanted.texts)[:400],
        "rows_erased": rows,
        "partitions_erased": partitions,
        "source_asked": int(ask_source),
    }
    quoted = sink_sql.quote_table(table.name)
    markers = ", ".join("?" * len(values))
    sink.execute(f"INSERT INTO {quoted} ({sink_sql.quote_names(values)}) VALUES ({markers})", *values.values())
    until = sink_sql.time_literal(began - work.settings.audit_retention)
    sink.execute(f"DELETE FROM {quoted} WHERE [pipeline] = ? AND [erased_at] < ?", work.pipeline.name, until)


def _remains(pipeline: Pipeline, began: datetime) -> list[str]:
    """What has the row until it ages, in sentences."""
    remains = [
        f"Nightly backups of the sink made before now have it, the last of them until {began + BACKUPS:%Y-%m-%d}. After"
        " a restore from one of them, erase it again.",
        "Copies of backups off the machine have it as long as the rules of their bucket keep them.",
    ]
    shown = [name for name in pipeline.key if name not in pipeline.sensitive]
    if shown:
        remains.append(
            f"Logs in Loki may name its key ({', '.join(shown)}) until {began + LOG_LINES:%Y-%m-%d}, and partitions in"
            f" Airflow's database until {began + METADATA:%Y-%m-%d} (its backups {BACKUPS.days} days longer): these"
            " columns are not declared sensitive."
        )
    return remains


def _tell(row: str, erased: Erased, *, dry_run: bool) -> None:
    log = structlog.get_logger()
    done = "would be erased" if dry_run else "done"
    log.info(f"erase: {done}", row=row, rows=erased.rows, partitions=erased.partitions)
    for sentence in erased.remains:
        log.warning(sentence)
