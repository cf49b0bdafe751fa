"""The two sides as streams of Arrow: the source through the rules of a load, the sink as its driver reads it."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Any
from uuid import UUID

import pyarrow as pa

from etl.config.settings import Settings
from etl.model.column_types import ColumnType
from etl.model.pipeline import Pipeline
from etl.model.window import KEYS, Partition, Window
from etl.sqlserver import verify_sql
from etl.sqlserver.connection import connect_sink
from etl.sqlserver.sink import Sink
from etl.steps.classify import Classifier, arrow_type
from etl.steps.context import StepContext
from etl.steps.extract import reading
from etl.steps.prefetch import prefetch
from etl.steps.progress import Progress
from etl.storage.staging import Manifest
from etl.verify.scope import Scope

Kinds = dict[str, ColumnType]
_ROWS_AT_ONCE = 100


@dataclass
class Stream:
    """Rows as they arrive. `rows` counts them; `failures` has the error that ended them, if one did."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    rows: int = 0
    manifest: Manifest | None = None
    failures: list[BaseException] = field(default_factory=list)

    def reader(self) -> pa.RecordBatchReader:
        """The rows as DuckDB reads them, with columns named by position: its names do not differ by case."""
        names = [f"c{place}" for place in range(len(self.schema))]
        schema = pa.schema([each.with_name(name) for each, name in zip(self.schema, names, strict=True)])
        return pa.RecordBatchReader.from_batches(schema, (each.rename_columns(names) for each in self.counted()))

    def counted(self) -> Iterator[pa.RecordBatch]:
        """The rows, once."""
        try:
            for batch in self.batches:
                self.rows += batch.num_rows
                yield batch
        except BaseException as error:
            self.failures.append(error)
            raise


class Sides:
    """Opens both sides of a pipeline, as often as they are read."""

    def __init__(self, settings: Settings, scope: Scope, run_id: str) -> None:
        self.scope = scope
        self.pipeline = scope.pipeline
        self.settings = settings
        self.run_id = run_id

    @contextmanager
    def source(self, keys: list[list[str]] | None = None, *, of_keys: bool = False) -> Iterator[Stream]:
        """The rows that a load would keep, in one snapshot; of some keys only. `of_keys`: keys, without the filter."""
        pipeline = self.scope.of_keys if of_keys else self.scope.reading
        with kept_rows(self.settings, pipeline, self.run_id, keys) as stream:
            yield stream

    @contextmanager
    def sink(self, keys: Sequence[Sequence[Any]] = (), columns: Sequence[str] | None = None) -> Iterator[Stream]:
        """The rows of the sink; of some keys only, as parameters of `has_key`."""
        with connect_sink(self.settings, self.pipeline, f"{self.pipeline.name}, verify") as sink:
            stream = sink_rows(sink, self.scope, keys, columns)
            with prefetch(stream.batches) as ahead:
                stream.batches = ahead
                yield stream


def sink_rows(
    sink: Sink, scope: Scope, keys: Sequence[Sequence[Any]] = (), columns: Sequence[str] | None = None
) -> Stream:
    """Rows of the sink over a connection, which takes no other statement before they are read."""
    kinds = {name: scope.pipeline.types[name] for name in columns or scope.columns}
    statement = verify_sql.select_rows(scope.pipeline, list(kinds), has_mark=scope.has_mark, keys=len(keys))
    read = _rows_as_arrow if any(kind.name == "bytea" for kind in kinds.values()) else _arrow
    batches = read(sink, kinds, statement, [*chain.from_iterable(keys)])
    first = next(batches)
    return Stream(first.schema, chain([first], batches))


def _arrow(sink: Sink, _: Kinds, statement: str, parameters: list[Any]) -> Iterator[pa.RecordBatch]:
    return sink.arrow_batches(statement, *parameters)


def _rows_as_arrow(sink: Sink, kinds: Kinds, statement: str, parameters: list[Any]) -> Iterator[pa.RecordBatch]:
    """The same by way of Python's values, which is slower, where there are values of any number of bytes."""
    schema = pa.schema(
        [(name, pa.string() if kind.name == "uuid" else arrow_type(kind)) for name, kind in kinds.items()]
    )
    yield pa.RecordBatch.from_pylist([], schema)
    for rows in sink.batches(statement, _ROWS_AT_ONCE, *parameters):
        columns = [
            pa.array([str(value) if isinstance(value, UUID) else value for value in values], field.type)
            for field, values in zip(schema, zip(*rows, strict=True), strict=True)
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


@contextmanager
def kept_rows(
    settings: Settings, pipeline: Pipeline, run_id: str, keys: list[list[str]] | None = None
) -> Iterator[Stream]:
    """The rows of the source that the filter keeps and the sink can hold; `manifest` has the counts at their end."""
    with ExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="etl-verify-"))
        # What is rejected is counted; its rows are the business of loads.
        own = settings.model_copy(update={"staging_url": f"file://{folder}", "statsd_host": None})
        partition = Partition(window=Window(high=datetime.now(UTC)), kind=KEYS, id=KEYS, keys=keys)
        work = StepContext(pipeline, run_id, partition, own)
        file = f"{work.staging.new_folder('run')}/rejects/rows.parquet"
        source = opened.enter_context(reading(work))
        classifier = opened.enter_context(Classifier(work, source.schema, file, Progress("verify")))
        rows = opened.enter_context(prefetch(source.batches()))
        stream = Stream(classifier.schema, iter(()))

        def kept() -> Iterator[pa.RecordBatch]:
            yield from classifier.kept(rows)
            stream.manifest = classifier.verdict(source.manifest())

        stream.batches = kept()
        yield stream
