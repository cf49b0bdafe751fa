"""The tables that are moved: narrow, as the orders are, and wide, with 8 KB of text in each row."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi as postgres
import psycopg
import pyarrow as pa
from etl.model.pipeline import Pipeline

from dev.sandbox.pipelines import ORDERS, make

_TIME = "timestamptz '2026-03-01' + n * interval '1 second'"


@dataclass(frozen=True)
class Shape:
    """A kind of table: its pipeline, how its rows are made of `n`, and how both ends add them up.

    Every row passes the filter, so that all contenders move the same rows.
    """

    name: str
    told: str
    definition: dict[str, Any]
    values: dict[str, str]
    sums: dict[str, str]
    """The checksum that is compared beside the count: an expression of Postgres, and the same in T-SQL."""


NARROW = Shape(
    "narrow",
    "the orders: 8 columns, about 90 bytes",
    ORDERS,
    {
        "order_id": "n",
        "customer": "'Customer ' || n % 9973",
        "status": "'confirmed'",
        "currency": "'EUR'",
        "amount": "(n * 104729 % 1000000) / 100.0",
        "note": "CASE n % 3 WHEN 0 THEN NULL ELSE 'note ' || n END",
        "created_at": _TIME,
        "updated_at": _TIME,
    },
    {
        "sum(order_id)": "SUM([order_id])",
        "sum(amount)": "SUM([amount])",
        "sum(length(customer))": "SUM(CAST(LEN([customer]) AS bigint))",
        "count(note)": "COUNT([note])",
    },
)
WIDE = Shape(
    "wide",
    "8 KB of text in each row",
    {
        **ORDERS,
        "name": "documents",
        "columns": {"order_id": "bigint", "body": "text", "updated_at": "timestamptz"},
        "filter": "order_id > 0",
    },
    {
        "order_id": "n",
        # Hexadecimal digits, which do not compress to nothing as repeated text would.
        "body": "(SELECT string_agg(encode(sha512(int8send(n * 64 + i)), 'hex'), '') FROM generate_series(1, 64) i)",
        "updated_at": _TIME,
    },
    {
        "sum(order_id)": "SUM([order_id])",
        "sum(length(body))": "SUM(CAST(LEN([body]) AS bigint))",
    },
)
SHAPES = {shape.name: shape for shape in (NARROW, WIDE)}


@dataclass(frozen=True)
class SourceTable:
    """A table of a shape with so many rows in the source; `total` is the checksum for the sink."""

    shape: Shape
    rows: int
    name: str
    total: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """The names of its columns."""
        return list(self.shape.definition["columns"])

    def pipeline(self, sink: str) -> Pipeline:
        """The pipeline from this table to one in the sink."""
        name = f"bench_{self.shape.name}"  # no other pipeline's, whose bookkeeping would be cleaned away
        return make(self.shape.definition, name=name, source=f"public.{self.name}", sink=sink)


def create_source(url: str, shape: Shape, rows: int) -> SourceTable:
    """Make a table in the source, if it is not there yet."""
    name = f"bench_{shape.name}_{rows}"
    columns = {**shape.definition["columns"]}
    declared = ", ".join(
        f"{column} {kind.removesuffix(' null')}{'' if kind.endswith(' null') else ' NOT NULL'}"
        for column, kind in columns.items()
    )
    values = ", ".join(shape.values[column] for column in columns)
    sums = ", ".join(f"({expression})::text" for expression in ("count(*)", *shape.sums))
    with psycopg.connect(url, autocommit=True) as connection:
        if connection.execute("SELECT to_regclass(%s)", [name]).fetchone() == (None,):
            connection.execute(f"CREATE TABLE {name} ({declared}, PRIMARY KEY (order_id))".encode())
            connection.execute(f"INSERT INTO {name} SELECT {values} FROM generate_series(1, {rows}::bigint) n".encode())
            connection.execute(f"CREATE INDEX ON {name} (updated_at)".encode())
            connection.execute(f"VACUUM ANALYZE {name}".encode())
        total = connection.execute(f"SELECT {sums} FROM {name}".encode()).fetchone()
    assert total is not None  # an aggregate has one row
    return SourceTable(shape, rows, name, tuple(total))


def sums_in_sink(table: SourceTable, sink: str) -> str:
    """The query of the sink that adds up as `total`."""
    return f"SELECT COUNT_BIG(*), {', '.join(table.shape.sums.values())} FROM {sink}"


def write_arrow(url: str, table: SourceTable, path: Path) -> None:
    """Write the rows to a file, as Arrow and as the sink takes them, for who is to do nothing but load."""
    with postgres.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(table.columns)} FROM {table.name}")
        reader = cursor.fetch_record_batch()
        schema = pa.schema([pa.field(field.name, _in_sink(field)) for field in reader.schema])
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            for batch in _converted(reader, schema):
                writer.write_batch(batch)


def _in_sink(field: pa.Field) -> pa.DataType:
    if isinstance(field.type, pa.OpaqueType):
        return pa.decimal128(12, 2)  # numeric, of which `amount` is the only one
    return pa.timestamp("us") if pa.types.is_timestamp(field.type) else field.type


def _converted(reader: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in reader:
        columns = [
            (column.storage if isinstance(column, pa.ExtensionArray) else column).cast(field.type)
            for column, field in zip(batch.columns, schema, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)
