"""Classifies rows, a batch at a time: kept in the sink's types, dropped by the filter, or rejected.

The rules are SQL of DuckDB, which evaluates them over whole columns of a batch. Columns have names by position there,
c0 and so on: a name in the pipeline could be one of ours, or equal to another for DuckDB, which ignores case.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any, Self

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.errors import ConfigurationError, DataError, TryAgainError, printable
from etl.model.column_types import ColumnType
from etl.model.pipeline import Pipeline
from etl.model.predicate import predicate_columns
from etl.model.predicate_sql import render_duckdb
from etl.steps.adjusted import Adjusted
from etl.steps.batches import BATCH_BYTES, CurrentBatch
from etl.steps.context import StepContext
from etl.steps.progress import Progress
from etl.steps.type_rules import as_text, breach, converted, is_breach
from etl.storage.staging import CODEC, Manifest

_OUTCOMES = ("kept", "dropped", "rejected")
_KEPT, _DROPPED, _REJECTED = range(3)
_OUTCOME, _HASH, _ADJUSTED = "outcome", "hash", "adjusted"
_ALL_64_BITS = (1 << 64) - 1


class Classifier:
    """Classifies the rows of one partition, each once, and counts the outcomes.

    A row is rejected if it would be kept but breaks the type rules, or if it breaks them in a column that the filter
    reads. Rejected rows are written to the file `rejects` in staging, which is created for the first of them.
    """

    def __init__(self, work: StepContext, staged: pa.Schema, rejects: str, progress: Progress) -> None:
        self.schema = pa.schema([(name, arrow_type(kind)) for name, kind in work.pipeline.types.items()])
        self._work = work
        self._progress = progress
        self._counts = dict.fromkeys(_OUTCOMES, 0)
        self._checksum = 0
        self._adjusted = Adjusted(work)
        self._rejects = rejects
        self._writer: pq.ParquetWriter | None = None
        self._first: tuple[str, ...] | None = None
        self._resources = ExitStack()
        # One thread: a second one takes 35 MB more and saves no time; partitions run in parallel.
        self._engine = self._resources.enter_context(duckdb.connect(config={"threads": 1}))
        self._engine.execute("SET TimeZone = 'UTC'; SET arrow_lossless_conversion = true")
        self._batch = CurrentBatch(staged.empty_table().rename_columns(_places(staged.names)).schema)
        self._engine.register("staged", self._batch)
        # Planning takes as long as classifying a few thousand rows, so the statements are prepared once.
        self._queries = {"outcomes": _outcome_query(work.pipeline), "rejects": _rejected_query(work.pipeline)}
        with self._translated():
            for name, query in self._queries.items():
                self._engine.execute(f"PREPARE {name} AS {query}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: Any) -> None:
        self._resources.__exit__(*failure)

    def kept(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The kept rows of batches from the source, in the types of the bulk copy.

        Raises ConfigurationError if the filter cannot be evaluated.
        """
        # Without a variable that would hold a batch while the next is made.
        return chain.from_iterable(map(self._classify, batches))

    def verdict(self, extracted: Manifest) -> Manifest:
        """The counts, the checksum and the file of rejects, if any, after all rows.

        Sends the metrics. Raises DataError if more rows are rejected than the pipeline tolerates; they are then in
        staging, with the reasons.
        """
        work, classified = self._work, sum(self._counts.values())
        # Rows that the source dropped, by pushdown, were not sent.
        if classified != extracted.extracted - extracted.dropped:
            raise TryAgainError(
                f"{work}: {extracted.extracted - extracted.dropped} rows were extracted, but {classified} classified;"
                " clear the run from `extract` on."
            )
        self._resources.close()
        counts = self._counts | {"dropped": self._counts["dropped"] + extracted.dropped}
        with work.metrics("filter") as metrics:  # also if the rows are refused below
            for outcome in _OUTCOMES if work.is_counted else ():
                metrics.rows(outcome, counts[outcome])
            metrics.seconds(self._progress.seconds)
        self._adjusted.log()
        if counts["rejected"] > work.pipeline.tolerated_rejects:
            raise self._refusal()
        files = {"rejects": self._rejects} if counts["rejected"] else {}
        counted = {**counts, "adjusted": self._adjusted.rows}
        return extracted.model_copy(update={"files": files, "checksum": f"{self._checksum:016x}", **counted})

    def _classify(self, batch: pa.RecordBatch) -> list[pa.RecordBatch]:
        self._progress.add(batch.num_rows)
        self._batch.rows = batch
        del batch
        rows = self._evaluated("outcomes")
        outcomes = rows.column(_OUTCOME)
        for entry in pc.value_counts(outcomes).to_pylist():  # one for each outcome
            self._counts[_OUTCOMES[entry["values"]]] += entry["counts"]
        if pc.any(pc.equal(outcomes, _REJECTED)).as_py():
            self._set_aside(self._evaluated("rejects"))
        self._batch.empty()
        # A sum does not depend on the order of the rows; it has 64 bits, as the hashes.
        self._checksum = (self._checksum + (pc.sum(rows.column(_HASH)).as_py() or 0)) & _ALL_64_BITS
        is_kept = pc.equal(outcomes, _KEPT)
        kept = rows if pc.all(is_kept).as_py() else rows.filter(is_kept)
        if self._work.pipeline.adjusted_columns:
            self._adjusted.add(kept, _ADJUSTED)
        return self._as_sent(kept)

    def _evaluated(self, name: str) -> pa.Table:
        # The result of a prepared statement is copied once more.
        is_long = self._batch.rows.nbytes > 2 * BATCH_BYTES
        with self._translated():
            return self._engine.sql(self._queries[name] if is_long else f"EXECUTE {name}").to_arrow_table()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            raise ConfigurationError(
                f"{self._work}: the filter ({self._work.pipeline.filter}) cannot be evaluated:"
                f" {self._work.mask.words(str(error).splitlines()[0])}"
            ) from error

    def _as_sent(self, kept: pa.Table) -> list[pa.RecordBatch]:
        columns = []
        for column, field in zip(kept.columns[: len(self.schema)], self.schema, strict=True):
            if isinstance(column.type, pa.BaseExtensionType):
                column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
            columns.append(column.cast(field.type))
        return [batch for batch in pa.table(columns, schema=self.schema).to_batches() if batch.num_rows]

    def _set_aside(self, rejected: pa.Table) -> None:
        """Write rejected rows: the `reason`, a sentence, and the `row` as in the source, as text or as masks."""
        names, mask = list(self._work.pipeline.columns), self._work.mask
        for place, name in enumerate(names):
            if mask.covers(name):
                masks = [None if value is None else mask.masked(name, value) for value in rejected[place].to_pylist()]
                rejected = rejected.set_column(place, rejected.column_names[place], pa.array(masks, pa.string()))
        *values, reason = rejected.columns
        # The row is nested, since a column of the pipeline may be called reason too.
        table = pa.table(
            {"reason": reason, "row": rejected.select(range(len(names))).rename_columns(names).to_struct_array()}
        )
        if self._writer is None:
            file = self._resources.enter_context(self._work.staging.writing(self._rejects))
            self._writer = self._resources.enter_context(pq.ParquetWriter(file, table.schema, **CODEC))
        self._writer.write_table(table)
        keys = [values[names.index(name)] for name in self._work.pipeline.key] + [reason]
        numbered = pa.table(keys, names=[str(number) for number in range(len(keys))])
        (least,) = numbered.take(
            pc.select_k_unstable(numbered, 1, [(name, "ascending") for name in numbered.column_names])
        ).to_pylist()
        first = tuple(least.values())
        self._first = min(self._first or first, first)

    def _refusal(self) -> DataError:
        work = self._work
        *values, reason = self._first or ()
        named = (f"{name}={printable(value)}" for name, value in zip(work.pipeline.key, values, strict=True))
        key = ", ".join(named) or "a row without a key"
        return DataError(
            f"{work}: {self._counts['rejected']} rows break the type rules, {work.pipeline.tolerated_rejects} are"
            f" tolerated; none was loaded. The first is {key}: {reason}. All are in {work.staging.path(self._rejects)};"
            " correct them at the source, then clear the run."
        )


def _outcome_query(pipeline: Pipeline) -> str:
    """Each row: its values in the sink's types, its outcome, and its hash if it is kept."""
    columns = ", ".join(_places(pipeline.columns))
    hashed = f"CASE WHEN {_OUTCOME} = {_KEPT} THEN hash({columns}) END AS {_HASH}"
    if not pipeline.adjusted_columns:
        return f"SELECT {columns}, {_OUTCOME}, {hashed} FROM ({_with_outcome(pipeline)})"
    listed = f"c{len(pipeline.columns)} AS {_ADJUSTED}"  # the column after those of the pipeline
    rows = _with_outcome(pipeline, listed)
    return f"SELECT {columns}, {_OUTCOME}, {hashed}, {_ADJUSTED} FROM ({rows})"


def _rejected_query(pipeline: Pipeline) -> str:
    """Each rejected row: its values in the source as text, and the reason."""
    places = _places(pipeline.columns)
    columns = ", ".join(
        f"{as_text(f'raw.{place}', column)} AS {place}"
        for place, column in zip(places, pipeline.types.values(), strict=True)
    )
    checks = (
        breach(name, place, column, name in pipeline.key)
        for place, (name, column) in zip(places, pipeline.types.items(), strict=True)
    )
    # There may be no check: of a table without a key all columns may be nullable, and of types whose values all fit.
    reason = f"concat_ws('; ', {', '.join(filter(None, checks)) or 'NULL::VARCHAR'}) AS reason"
    rows = _with_outcome(pipeline, "staged AS raw", reason)
    return f"SELECT {columns}, reason FROM ({rows}) WHERE {_OUTCOME} = {_REJECTED}"


def _with_outcome(pipeline: Pipeline, *more: str) -> str:
    """Each staged row with its outcome, and with more expressions."""
    places = dict(zip(pipeline.columns, _places(pipeline.columns), strict=True))
    typed = (f"{converted(places[name], column)} AS {places[name]}" for name, column in pipeline.types.items())
    broken = {name: is_breach(places[name], column, name in pipeline.key) for name, column in pipeline.types.items()}
    needed = predicate_columns(pipeline.predicate)
    undecided = _any([check for name, check in broken.items() if check and name in needed])
    is_broken = _any([check for check in broken.values() if check])
    selected = ", ".join([*typed, f"{undecided} AS undecided", f"{is_broken} AS broken", *more])
    keep = f"coalesce({render_duckdb(pipeline.predicate, places)}, false)"
    return (
        f"SELECT *, CASE WHEN broken AND ({keep} OR undecided) THEN {_REJECTED}"
        f" WHEN {keep} THEN {_KEPT} ELSE {_DROPPED} END::UTINYINT AS {_OUTCOME} FROM (SELECT {selected} FROM staged)"
    )


def _places(columns: Collection[str]) -> list[str]:
    """The names of columns in the SQL here, by position."""
    return [f"c{number}" for number in range(len(columns))]


def _any(conditions: list[str]) -> str:
    return f"({' OR '.join(conditions)})" if conditions else "false"


def arrow_type(column: ColumnType) -> pa.DataType:
    """The type that the bulk copy takes for a column."""
    function, _, arguments = column.arrow.rstrip(")").partition("(")
    return getattr(pa, function)(*(int(each) if each.isdecimal() else each for each in arguments.split(",") if each))
