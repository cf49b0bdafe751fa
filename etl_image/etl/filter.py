"""`etl filter`: the staged rows the predicate is true for, in the sink's types; what breaks the contract goes aside."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from etl.column_types import ColumnType
from etl.contract import breach, converted, quote, quote_text
from etl.errors import ConfigurationError, DataError, TryAgainError
from etl.predicate import predicate_columns, render_duckdb
from etl.progress import Progress
from etl.staging import Manifest
from etl.step import Work

MEMORY_LIMIT = "96MB"
"""What DuckDB may hold before it spills to a temporary folder."""
# Columns of our own beside the pipeline's: a tab is not printable, so no column of a pipeline is called that.
_RAW, _BREACH, _UNDECIDED, _OUTCOME = (f'"\t{name}"' for name in ("raw", "breach", "undecided", "outcome"))


def filter_rows(work: Work) -> Manifest:
    """Judge every staged row, once: kept, dropped by the predicate, or rejected.

    A row is rejected when it would be kept but breaks the contract, or when what is wrong with it is in a column that
    the predicate reads. Raises DataError above the tolerance; the rejects are then in staging, with the reasons.
    """
    log = structlog.get_logger()
    staged = work.staging.manifest("extract", work.fingerprint)
    progress = Progress("filter")
    with _engine(work, staged) as engine:
        counts, checksum = _judge(engine, work, staged)
        progress.expect(counts["kept"])
        folder = work.staging.new_folder("filter")
        files = {"rows": f"{folder}/rows.parquet"}
        _keep(engine, work, staged, files["rows"], progress)
        if progress.rows != counts["kept"]:
            told = f"of {counts['kept']} rows to keep {progress.rows} were written"
            raise TryAgainError(f"{work}: {told}; run the step again.")
        if counts["rejected"]:
            files["rejects"] = f"{folder}/rejects/rows.parquet"
            _set_aside(engine, work, staged, files["rejects"])
        with work.metrics("filter") as metrics:  # also of rows that are refused below
            for outcome in ("kept", "dropped", "rejected"):
                metrics.rows(outcome, counts[outcome])
            metrics.seconds(progress.seconds)
        if counts["rejected"]:
            _refuse_above_tolerance(engine, work, counts["rejected"], files["rejects"])
    manifest = staged.model_copy(update={"files": files, "checksum": checksum, **counts})
    work.staging.publish("filter", manifest)
    log.info("filter: done", **counts, seconds=round(progress.seconds, 1))
    return manifest


@contextmanager
def _engine(work: Work, staged: Manifest) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with the staged rows as view `judged`: values in the sink's types, what is wrong, and the outcome."""
    with tempfile.TemporaryDirectory(prefix="etl-filter-") as spill:
        # One thread: a second one takes 35 MB more and no less time; what runs in parallel is partitions.
        engine = duckdb.connect(config={"memory_limit": MEMORY_LIMIT, "temp_directory": spill, "threads": 1})
        # The order of rows means nothing here, and keeping it takes memory.
        engine.execute("SET preserve_insertion_order = false")
        engine.execute("SET TimeZone = 'UTC'; SET arrow_lossless_conversion = true")
        path = work.staging.path(staged.files["rows"])
        if not work.staging.is_local:
            engine.register_filesystem(work.staging.filesystem)
            path = f"{work.staging.filesystem.protocol[0]}://{path}"
        try:
            engine.execute(f"CREATE VIEW staged AS SELECT * FROM read_parquet({quote_text(path)})")
            engine.execute(f"CREATE VIEW judged AS {_judged(work)}")
            yield engine
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise TryAgainError(f"{work}: staged rows cannot be filtered: {str(error).splitlines()[0]}") from error
        except duckdb.Error as error:
            raise ConfigurationError(
                f"{work}: the filter ({work.pipeline.filter}) cannot be evaluated: {str(error).splitlines()[0]}"
            ) from error
        finally:
            engine.close()


def _judged(work: Work) -> str:
    pipeline = work.pipeline
    breaches = {name: breach(name, column, name in pipeline.key) for name, column in pipeline.types.items()}
    typed = ", ".join(f"{converted(name, column)} AS {quote(name)}" for name, column in pipeline.types.items())
    needed = predicate_columns(pipeline.predicate)
    undecided = _joined([check for name, check in breaches.items() if check and name in needed])
    keep = f"coalesce({render_duckdb(pipeline.predicate)}, false)"
    return (
        f"SELECT *, CASE WHEN {_BREACH} <> '' AND ({keep} OR {_UNDECIDED} <> '') THEN 'rejected'"
        f" WHEN {keep} THEN 'kept' ELSE 'dropped' END AS {_OUTCOME} FROM ("
        f"SELECT {typed}, staged AS {_RAW}, {undecided} AS {_UNDECIDED},"
        f" {_joined([check for check in breaches.values() if check])} AS {_BREACH} FROM staged)"
    )


def _joined(checks: list[str]) -> str:
    return f"concat_ws('; ', {', '.join(checks)})" if checks else "''"


def _judge(engine: duckdb.DuckDBPyConnection, work: Work, staged: Manifest) -> tuple[dict[str, int], str]:
    """Count each outcome by itself, and take a checksum of the kept rows that does not depend on their order."""
    columns = ", ".join(quote(name) for name in work.pipeline.columns)
    row = _one(
        engine,
        "SELECT count(*), "
        + ", ".join(f"count(*) FILTER ({_OUTCOME} = '{outcome}')" for outcome in ("kept", "dropped", "rejected"))
        + f", bit_xor(hash({columns})) FILTER ({_OUTCOME} = 'kept') FROM judged",
    )
    counts = dict(zip(("extracted", "kept", "dropped", "rejected"), row, strict=False))
    if counts["extracted"] != staged.extracted or sum(row[1:4]) != staged.extracted:
        raise TryAgainError(f"{work}: {staged.extracted} rows were staged, found {counts}; run `etl extract` again.")
    return counts, f"{row[4] or 0:016x}"


def _batches(
    engine: duckdb.DuckDBPyConnection, staged: Manifest, query: str, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """The rows of a query in the types of a schema, a few megabytes at a time."""
    for batch in engine.sql(query).to_arrow_reader(staged.batch_rows):
        columns = [
            (column.storage if isinstance(column, pa.ExtensionArray) else column).cast(field.type)
            for column, field in zip(batch.columns, schema, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _keep(engine: duckdb.DuckDBPyConnection, work: Work, staged: Manifest, name: str, progress: Progress) -> None:
    """Write the kept rows in the types that the bulk copy takes; `progress` counts them."""
    columns = ", ".join(quote(column) for column in work.pipeline.columns)
    schema = pa.schema([(column, _arrow_type(kind)) for column, kind in work.pipeline.types.items()])
    query = f"SELECT {columns} FROM judged WHERE {_OUTCOME} = 'kept'"
    with work.staging.writing(name) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in _batches(engine, staged, query, schema):
            writer.write_batch(batch)
            progress.add(batch.num_rows)


def _set_aside(engine: duckdb.DuckDBPyConnection, work: Work, staged: Manifest, name: str) -> None:
    """Write the rejected rows as the source had them, as text, and the reason in words."""
    columns = ", ".join(_raw_text(column) for column in work.pipeline.columns)
    schema = pa.schema([(column, pa.string()) for column in (*work.pipeline.columns, "reason")])
    query = f"SELECT {columns}, {_BREACH} FROM judged WHERE {_OUTCOME} = 'rejected'"
    with work.staging.writing(name) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in _batches(engine, staged, query, schema):
            writer.write_batch(batch)


def _refuse_above_tolerance(engine: duckdb.DuckDBPyConnection, work: Work, rejected: int, file: str) -> None:
    if rejected <= work.pipeline.tolerated_rejects:
        return
    keys = ", ".join(_raw_text(name) for name in work.pipeline.key)
    first = f"SELECT {keys}, {_BREACH} FROM judged WHERE {_OUTCOME} = 'rejected' ORDER BY ALL LIMIT 1"
    *values, reason = _one(engine, first)
    key = ", ".join(f"{name}={value}" for name, value in zip(work.pipeline.key, values, strict=True))
    raise DataError(
        f"{work}: {rejected} rows break the contract, {work.pipeline.tolerated_rejects} are tolerated; none was loaded."
        f" The first is {key}: {reason}. All are in {work.staging.path(file)};"
        " correct them at the source, then clear the run."
    )


def _raw_text(column: str) -> str:
    return f"{_RAW}.{quote(column)}::VARCHAR"


def _one(engine: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] = engine.sql(query).fetchall()[0]
    return row


def _arrow_type(column: ColumnType) -> pa.DataType:
    """What the bulk copy is given for a column."""
    match column.name:
        case "numeric":
            return pa.decimal128(column.precision, column.scale)
        case "timestamp" | "timestamptz":
            return pa.timestamp("us")
        case "time":
            return pa.time64("us")
        case "uuid":
            return pa.binary(16)
    return _ARROW.get(column.name, pa.string())


_ARROW = {
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "bytea": pa.binary(),
}
