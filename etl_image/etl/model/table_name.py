"""Table names with their schema, as people write them: quoted as in the table's database, or unquoted.

Unquoted text is taken literally, including capitals and spaces.
"""

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from etl.errors import printable
from etl.model.names import as_sql_server_sees, check_identifier

OWN_SCHEMAS = ("etl", "etl_staging")
"""The loader's schemas in the sink: of the ledger, and of the staging tables."""
_SYSTEM_SCHEMAS = ("sys", "information_schema", "guest")
_LONGEST_SINK_NAME = 128  # in UTF-16 code units, as SQL Server's type sysname
_QUOTED = {
    '"': re.compile(r'"(?P<name>([^"]|"")*)"'),
    "[": re.compile(r"\[(?P<name>([^\]]|\]\])*)\]"),
}
_ENDS = {'"': '"', "[": "]"}
_AMBIGUOUS = re.compile(r'["[]|.*\.', re.DOTALL)


def split_source(text: str) -> tuple[str, str]:
    """Schema and table of a name as Postgres reads it; without quotes, all after the first dot is the table.

    Raises ValueError, with a sentence, for anything else.
    """
    schema, rest = _first_part(text, '"')
    if not rest:
        raise ValueError(f"'{printable(text)}' must name the schema too, for example public.{printable(text)}")
    if not rest[1:].startswith('"'):
        return schema, rest[1:]
    table, more = _first_part(rest[1:], '"')
    if more:
        raise ValueError(
            f"'{printable(text)}' has three parts; write schema and table alone: SOURCE_URL names the database"
        )
    return schema, table


def split_sink(text: str) -> tuple[str, str]:
    """Schema and table of a name as SQL Server reads it. Raises ValueError, with a sentence, for anything else."""
    schema, rest = _first_part(text, '"[')
    if not rest:
        raise ValueError(f"'{printable(text)}' must name the schema too, for example dbo.{printable(text)}")
    table, more = _first_part(rest[1:], '"[')
    if more:
        raise ValueError(
            f"'{printable(text)}' has three parts; write schema and table alone: SINK_URL names the database."
            " A name that has a dot in it is written in brackets, as dbo.[a.b]"
        )
    return schema, table


def written(schema: str, table: str) -> str:
    """A name that both functions parse to these, quoted only if needed."""
    return ".".join('"' + name.replace('"', '""') + '"' if _AMBIGUOUS.match(name) else name for name in (schema, table))


def _first_part(text: str, quotes: str) -> tuple[str, str]:
    """The first part of a name, and the rest from the dot on."""
    if text[:1] not in tuple(quotes):
        name, dot, rest = text.partition(".")
        return name, dot + rest
    match = _QUOTED[text[0]].match(text)
    if match is None or text[match.end() :][:1] not in ("", "."):
        raise ValueError(
            f"'{printable(text)}' begins with {text[0]} and has no {_ENDS[text[0]]} at the end of the name;"
            f" inside of it, {_ENDS[text[0]]} is written twice"
        )
    return match["name"].replace(_ENDS[text[0]] * 2, _ENDS[text[0]]), text[match.end() :]


class TableName(BaseModel):
    """A table and its schema, without quotes; printed so that both databases' quoting rules read it back as this."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_name: str
    table: str

    def __str__(self) -> str:
        return written(self.schema_name, self.table)


def _split(split: Callable[[str], tuple[str, str]]) -> BeforeValidator:
    return BeforeValidator(
        lambda given: (
            dict(zip(("schema_name", "table"), split(given), strict=True)) if isinstance(given, str) else given
        )
    )


def _check_source(table: TableName) -> TableName:
    check_identifier(table.schema_name)
    check_identifier(table.table)
    return table


def _check_sink(table: TableName) -> TableName:
    for name in (table.schema_name, table.table):
        units = len(name.encode("utf-16-le", "surrogatepass")) // 2
        if not 1 <= units <= _LONGEST_SINK_NAME or not name.isprintable():
            allowed = f"1 to {_LONGEST_SINK_NAME} characters, printable"
            raise ValueError(f"'{printable(name)}' is not a name that SQL Server can have ({allowed})")
    schema = as_sql_server_sees(table.schema_name)
    if schema in OWN_SCHEMAS:
        raise ValueError(f"the schema {table.schema_name} is the loader's own; load into another")
    if schema in _SYSTEM_SCHEMAS:
        raise ValueError(f"the schema {table.schema_name} is SQL Server's own; load into another")
    if table.table.startswith("#"):
        raise ValueError(f"{table} would be a temporary table, which ends with the connection; leave the # away")
    return table


SourceTable = Annotated[TableName, _split(split_source), AfterValidator(_check_source)]
"""A table of Postgres, also given as a text such as `public.orders` or `"public"."orders"`."""
SinkTable = Annotated[TableName, _split(split_sink), AfterValidator(_check_sink)]
"""A table of SQL Server, also given as a text such as `dbo.orders` or `[dbo].[orders]`."""
