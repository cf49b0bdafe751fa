"""The rows of a table at both ends, read and compared without any code of the loads.

The source is read with psycopg, the sink with SELECT, and rows are compared as multisets.
"""

import uuid
from collections import Counter
from datetime import datetime
from decimal import Context, Decimal
from typing import Any

import psycopg
from etl.model.pipeline import Pipeline

from dev.sandbox.pipeline_fixture import PipelineFixture
from tests.harness.tables import quoted

# Read by psycopg as Python's values; all other types as their text.
_AS_IT_IS = {"smallint", "integer", "bigint", "numeric", "double precision", "boolean", "text", "name",
             "character varying", "uuid", "bytea", "date", "time without time zone", "timestamp without time zone",
             "timestamp with time zone", "character", "oid"}  # fmt: skip
_OTHER_FORMS = {"inet": "abbrev({})", "money": "{}::numeric", "real": "{}::float8"}
_EXACT = Context(prec=200_000)
_TYPES = (
    "WITH RECURSIVE b AS ("
    "SELECT attname AS name, atttypid AS type FROM pg_attribute WHERE attrelid = %s::regclass"
    " UNION ALL SELECT name, typbasetype FROM b JOIN pg_type t ON t.oid = b.type WHERE typtype = 'd')"
    " SELECT name, format_type(type, NULL) FROM b JOIN pg_type t ON t.oid = b.type WHERE typtype <> 'd'"
)


def difference(made: PipelineFixture) -> str:
    """How the rows of the sink differ from the source's; empty if they do not."""
    source = source_rows(made.source_url, made.pipeline)
    # An incremental run that finds no rows creates no table.
    sink = sink_rows(made) if source or made.sink_exists() else Counter[Any]()
    if source == sink:
        return ""
    missing, more = source - sink, sink - source
    examples = "; ".join(f"{row!r:.300}" for row in (*list(missing)[:1], *list(more)[:1]))
    return f"{missing.total()} rows of the source are not in the sink, {more.total()} of the sink not there: {examples}"


def source_rows(url: str, pipeline: Pipeline) -> Counter[Any]:
    options = "-c timezone=UTC -c intervalstyle=postgres -c extra_float_digits=3"
    with psycopg.connect(url, options=options, client_encoding="UTF8") as connection:
        cursor = connection.cursor()
        cursor.execute(_TYPES, [_relation(pipeline)])
        types: dict[str, str] = dict(cursor.fetchall())
        columns = ", ".join(
            quoted(name) if types[name] in _AS_IT_IS and not _is_text(pipeline, name, types[name])
            else _OTHER_FORMS.get(types[name], "{}::text").format(quoted(name))
            for name in pipeline.columns
        )  # fmt: skip
        cursor.execute(f"SELECT {columns} FROM {_relation(pipeline)}".encode())
        return Counter(tuple(map(_plain, row)) for row in cursor)


def sink_rows(made: PipelineFixture) -> Counter[Any]:
    columns = ", ".join(f"[{name.replace(']', ']]')}]" for name in made.pipeline.columns)
    schema, table = made.pipeline.sink.schema_name, made.pipeline.sink.table.replace("]", "]]")
    return Counter(tuple(map(_plain, row)) for row in made.query(f"SELECT {columns} FROM [{schema}].[{table}]"))


def _plain(value: Any) -> Any:
    """A value as both drivers have it, in one form."""
    if isinstance(value, Decimal):
        return _EXACT.add(_EXACT.normalize(value), Decimal(0))
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    return str(value) if isinstance(value, uuid.UUID) else value


def _is_text(pipeline: Pipeline, name: str, source: str) -> bool:
    return source == "numeric" and pipeline.types[name].is_text


def _relation(pipeline: Pipeline) -> str:
    return f"{quoted(pipeline.source.schema_name)}.{quoted(pipeline.source.table)}"
