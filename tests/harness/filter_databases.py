"""The same rows in Postgres, in DuckDB as they are judged, and as SQL Server has them: each decides about a filter."""

import random
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
from etl.model.predicate import parse_predicate
from etl.model.predicate_sql import DuckDB, render_duckdb, render_tsql
from etl.model.predicate_values import Term
from etl.model.source_type import SourceType, reads
from etl.postgres.filter import Postgres as PostgresRenderer
from etl.postgres.quoting import quote_name
from etl.steps.extract import reading
from etl.steps.type_rules import converted

from dev.sandbox.pipeline_fixture import existing_fixture
from dev.sandbox.pipelines import make
from dev.sandbox.postgres import Postgres
from tests.doubles.tsql.evaluator import read_condition
from tests.harness.filters import COLUMNS, EDGES, VALUES

_PIPELINE = make(EDGES)
_SOURCE = {
    "cents": SourceType("money"), "label": SourceType("name"), "bits": SourceType("bit"),
}  # fmt: skip
_SENT = {name: read.format(quote_name(name)) for name, read in reads(_PIPELINE.types, _SOURCE).items()}
# Row by row, if a whole query fails: the rows that Postgres can decide about.
_ROW_BY_ROW = """
CREATE FUNCTION row_by_row(condition text) RETURNS TABLE (k integer, kept boolean) LANGUAGE plpgsql AS $$
DECLARE each integer;
BEGIN
    FOR each IN SELECT edges.k FROM edges LOOP
        BEGIN
            EXECUTE 'SELECT ' || condition || ' FROM edges WHERE k = $1' INTO kept USING each;
            k := each;
            RETURN NEXT;
        EXCEPTION WHEN numeric_value_out_of_range THEN
        END;
    END LOOP;
END $$
"""


class DisagreementError(AssertionError):
    """A filter that is not decided alike."""


class FilterDatabases:
    """Decides about filters in all databases, and counts the pairs of filter and row that were compared."""

    def __init__(self, connection: psycopg.Connection[Any], staged: pa.Table) -> None:
        self.pairs = self.filters = self.refused = self.as_written = 0
        self._postgres = connection
        self._duckdb = duckdb.connect(config={"threads": 1})
        self._duckdb.execute("SET TimeZone = 'UTC'; SET arrow_lossless_conversion = true")
        self._duckdb.register("staged", staged)
        quoted = {name: DuckDB({}).name(name) for name in _PIPELINE.types}
        typed = ", ".join(
            f"{converted(quoted[name], kind)} AS {quoted[name]}" for name, kind in _PIPELINE.types.items()
        )
        self._duckdb.execute(f"CREATE TABLE edges AS SELECT {typed} FROM staged")
        cursor = self._duckdb.execute("SELECT * FROM edges")
        names = [name for name, *_ in cursor.description]
        self._rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def compare(self, text: str) -> None:
        """Count a filter as refused, or compare the decisions on every row. Raises DisagreementError."""
        try:
            predicate = parse_predicate(text, _PIPELINE.types)
        except ValueError as error:
            assert str(error).isprintable(), error  # noqa: PT017
            self.refused += 1
            return
        kept = self._of_sink(predicate)
        for where, found in (("DuckDB", self._of_duckdb(predicate)), ("pushdown", self._of_pushdown(predicate))):
            self._agree(text, predicate, where, found, kept)
        written = self._as_written(text)
        if written is not None:
            decided = {k for k, _ in written}
            self._agree(text, predicate, "Postgres", {k for k, is_kept in written if is_kept}, kept & decided)
            self.as_written += 1
        self.filters += 1
        self.pairs += len(self._rows)

    def _agree(self, text: str, predicate: Term, where: str, found: set[int], kept: set[int]) -> None:
        if found != kept:
            rows = [row for row in self._rows if row["k"] in found ^ kept][:2]
            read = {name for name in COLUMNS if name in text}
            wrong = [{name: value for name, value in row.items() if name in read} for row in rows]
            raise DisagreementError(
                f"{text!r}\nSQL Server: {render_tsql(predicate)}\nDuckDB: {render_duckdb(predicate)}\n{where} keeps"
                f" {sorted(found - kept)[:5]} and drops {sorted(kept - found)[:5]}, unlike SQL Server: {wrong}"
            )

    def _of_sink(self, predicate: Term) -> set[int]:
        condition = read_condition(
            render_tsql(predicate), {name: column.tsql for name, column in _PIPELINE.types.items()}
        )
        return {row["k"] for row in self._rows if condition(row)}

    def _of_duckdb(self, predicate: Term) -> set[int]:
        found = self._duckdb.execute(f"SELECT k FROM edges WHERE {render_duckdb(predicate)}").fetchall()
        return {k for (k,) in found}

    def _of_pushdown(self, predicate: Term) -> set[int]:
        condition = PostgresRenderer(_SENT).condition(predicate)
        return {k for (k,) in self._postgres.execute(f"SELECT k FROM edges WHERE {condition}".encode())}

    def _as_written(self, text: str) -> list[tuple[int, bool]] | None:
        """Postgres' result for each row it can decide about; None if it rejects the filter."""
        condition = f"({text}\n)"
        try:
            return self._postgres.execute(f"SELECT k, coalesce({condition}, false) FROM edges".encode()).fetchall()
        except (psycopg.ProgrammingError, psycopg.errors.InvalidTextRepresentation):
            return None
        except psycopg.errors.NumericValueOutOfRange:
            quoted = psycopg.sql.Literal(f"coalesce({condition}, false)")
            query = psycopg.sql.SQL("SELECT * FROM row_by_row({})").format(quoted)
            return self._postgres.execute(query).fetchall()


@contextmanager
def filter_databases(postgres: Postgres) -> Iterator[FilterDatabases]:
    """Databases with edge values of the declared column types, alone and combined."""
    with edges(postgres) as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(_ROW_BY_ROW)
        with tempfile.TemporaryDirectory() as staging:
            work = existing_fixture(_PIPELINE, url, "mssql://u@none/none", Path(staging)).work()
            with reading(work) as source:
                staged = pa.Table.from_batches(source.batches(), source.schema)
        yield FilterDatabases(connection, staged)


@contextmanager
def edges(postgres: Postgres) -> Iterator[str]:
    """The URL of a database with the table `edges`, its columns as the pipeline declares them."""
    name = f"filters_{uuid.uuid4().hex[:8]}"
    url = postgres.create_database(name)
    columns = ", ".join(f"{column} {_declared(kind)}" for column, kind in COLUMNS.items())
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE TABLE edges ({columns}, PRIMARY KEY (k))".encode())
            fill(connection, VALUES)
        yield url
    finally:
        postgres.drop_database(name)


def fill(connection: psycopg.Connection[Any], values: dict[str, list[str]]) -> None:
    """Fill the table with each value in one row, null in the other columns, and with rows of values by chance."""
    choice = random.Random(7)
    rows: list[dict[str, str | None]] = [{name: each} for name, found in values.items() for each in [*found, None]]
    rows += [{name: choice.choice([*found, None]) for name, found in values.items()} for _ in range(100)]
    names = ", ".join(values)
    with connection.cursor().copy(f"COPY edges (k, version, {names}) FROM STDIN".encode()) as copy:
        for k, row in enumerate(rows):
            needed = {"needed": "a"} | {name: value for name, value in row.items() if name != "needed" or value}
            copy.write_row([k, "2026-01-01", *(needed.get(name) for name in values)])


def _declared(kind: str) -> str:
    collated = ' COLLATE "C"' if kind.startswith(("text", "varchar", "char")) else ""
    return f"{kind.removesuffix(' null')}{collated}{'' if kind.endswith(' null') else ' NOT NULL'}"
