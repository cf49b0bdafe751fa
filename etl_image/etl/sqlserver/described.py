"""The columns of tables of the sink, as SQL Server describes them, with their types as our DDL writes them."""

from collections.abc import Iterable, Sequence
from typing import Any

from etl.model.table_name import TableName
from etl.sqlserver.sql import quote_text


def find_columns(*tables: TableName) -> str:
    """A row for each column, in order.

    Its fields: the place of its table among the arguments, name, the five arguments of `written`, collation, and YES if
    it may be null.
    """
    # One statement for all of them: each is a way to the server and back.
    columns = " UNION ALL ".join(
        f"SELECT {place} AS place, COLUMN_NAME, DATA_TYPE, CHARACTER_MAXIMUM_LENGTH, NUMERIC_PRECISION, NUMERIC_SCALE,"
        " DATETIME_PRECISION, COLLATION_NAME, IS_NULLABLE, ORDINAL_POSITION FROM INFORMATION_SCHEMA.COLUMNS"
        f" WHERE TABLE_SCHEMA = {quote_text(table.schema_name)} AND TABLE_NAME = {quote_text(table.table)}"
        for place, table in enumerate(tables)
    )
    return (
        "SELECT place, COLUMN_NAME, DATA_TYPE, CHARACTER_MAXIMUM_LENGTH, NUMERIC_PRECISION, NUMERIC_SCALE,"
        f" DATETIME_PRECISION, COLLATION_NAME, IS_NULLABLE FROM ({columns}) AS columns ORDER BY place, ORDINAL_POSITION"
    )


def written(data_type: str, length: int | None, precision: int | None, scale: int | None, fraction: int | None) -> str:
    """A type with its arguments."""
    if data_type in ("decimal", "numeric"):
        return f"decimal({precision},{scale})"
    if data_type == "float":
        return f"float({precision})"
    if data_type in ("datetime2", "datetimeoffset", "time"):
        return f"{data_type}({fraction})"
    if length is not None:
        return f"{data_type}({'max' if length == -1 else length})"
    return data_type


def types(rows: Iterable[Sequence[Any]]) -> dict[str, str]:
    """The type of each column in the result of `find_columns` of one table."""
    return {name: written(*rest) for _, name, *rest, _, _ in rows}
