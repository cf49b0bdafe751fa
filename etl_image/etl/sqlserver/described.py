"""The columns of a table of the sink, as SQL Server describes them, with their types as our DDL writes them."""

from collections.abc import Iterable, Sequence
from typing import Any

from etl.model.pipeline import TableName
from etl.sqlserver.sql import quote_text


def find_columns(table: TableName) -> str:
    """A row for each column, in order: name, the five arguments of `written`, collation, and YES if it may be null."""
    return (
        "SELECT COLUMN_NAME, DATA_TYPE, CHARACTER_MAXIMUM_LENGTH, NUMERIC_PRECISION, NUMERIC_SCALE,"
        " DATETIME_PRECISION, COLLATION_NAME, IS_NULLABLE FROM INFORMATION_SCHEMA.COLUMNS"
        f" WHERE TABLE_SCHEMA = {quote_text(table.schema_name)} AND TABLE_NAME = {quote_text(table.table)}"
        " ORDER BY ORDINAL_POSITION"
    )


def written(data_type: str, length: int | None, precision: int | None, scale: int | None, fraction: int | None) -> str:
    """A type with its arguments."""
    if data_type in ("decimal", "numeric"):
        return f"decimal({precision},{scale})"
    if data_type == "float":
        return f"float({precision})"
    if data_type in ("datetime2", "time"):
        return f"{data_type}({fraction})"
    if length is not None:
        return f"{data_type}({'max' if length == -1 else length})"
    return data_type


def types(rows: Iterable[Sequence[Any]]) -> dict[str, str]:
    """The type of each column in the result of `find_columns`."""
    return {name: written(*rest) for name, *rest, _, _ in rows}
