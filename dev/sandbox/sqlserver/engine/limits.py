"""SQL Server's size limits of keys and rows, checked for a new table and for its rows.

https://learn.microsoft.com/sql/sql-server/maximum-capacity-specifications-for-sql-server
"""

from collections.abc import Iterator

from dev.sandbox.sqlserver.engine.catalogue import Table, TableColumn, quote
from dev.sandbox.sqlserver.errors import SqlError
from dev.sandbox.sqlserver.types import MAX, SqlType

_KEY_COLUMNS, _KEY_BYTES, _ROW_BYTES = 32, 900, 8060
_POINTER_BYTES = 24
"""Bytes that an off-row value takes in its row."""
_FIXED = {"bit": 1, "date": 3, "time": 5, "datetime2": 8, "datetimeoffset": 10, "uniqueidentifier": 16}
_DIGITS = ((9, 5), (19, 9), (28, 13), (38, 17))


def check_table(table: Table) -> list[tuple[int, str]]:
    """Warnings, with their numbers. Raises SqlError 1701, 1904, 1919 or 1944 for a table beyond the limits."""
    _check_row(table)
    key = _key(table)
    if len(key) > _KEY_COLUMNS:
        raise SqlError(
            1904,
            f"The index '{table.key_name}' on table '{table.full_name}' has {len(key)} columns in the key list."
            f" The maximum limit for index key column list is {_KEY_COLUMNS}.",
        )
    for column in key:
        if column.type.length == MAX:
            raise SqlError(
                1919,
                f"Column '{column.name}' in table '{table.full_name}' is of a type that is invalid for use as a key"
                " column in an index.",
            )
    least, most = sum(map(_least_bytes, key)), sum(map(_most_bytes, key))
    if least > _KEY_BYTES:
        raise SqlError(
            1944,
            f"Index '{table.key_name}' was not created because the index key size is at least {least} bytes. The"
            f" clustered index key size cannot exceed {_KEY_BYTES} bytes. If the index key includes implicit key"
            f" columns, the index key size cannot exceed {_KEY_BYTES} bytes.",
        )
    if most <= _KEY_BYTES:
        return []
    return [
        (
            1945,
            f"Warning! The maximum key length for a clustered index is {_KEY_BYTES} bytes. The index"
            f" '{table.key_name}' has maximum length of {most} bytes. For some combination of large values, the"
            " insert/update operation will fail.",
        )
    ]


def checks(table: Table) -> Iterator[str]:
    """CHECK conditions in DuckDB's SQL that raise error 1946 or 511, if rows of the table can exceed the limits."""
    key = _key(table)
    if sum(map(_most_bytes, key)) > _KEY_BYTES:
        size = " + ".join(map(_bytes, key))
        name = table.key_name.replace("'", "''")
        yield (
            f"CASE WHEN {size} > {_KEY_BYTES} THEN error('standin 1946 Operation failed. The index entry of length ' ||"
            f" CAST({size} AS VARCHAR) || ' bytes for the index ''{name}'' exceeds the maximum length of"
            f" {_KEY_BYTES} bytes for clustered indexes.') ELSE true END"
        )
    overhead = _overhead(table)
    most = (
        min(_most_bytes(column), _POINTER_BYTES) if _varies(column.type) else _most_bytes(column)
        for column in table.columns
    )
    if overhead + sum(most) > _ROW_BYTES:
        parts = (_bytes(column, _POINTER_BYTES) if _varies(column.type) else _bytes(column) for column in table.columns)
        size = " + ".join([str(overhead), *parts])
        yield (
            f"CASE WHEN {size} > {_ROW_BYTES} THEN error('standin 511 Cannot create a row of size ' ||"
            f" CAST({size} AS VARCHAR) || ' which is greater than the allowable maximum row size of {_ROW_BYTES}.')"
            " ELSE true END"
        )


def _check_row(table: Table) -> None:
    internal = 4 + 2 + (len(table.columns) + 7) // 8
    least = internal + sum(map(_least_bytes, table.columns))
    if least > _ROW_BYTES:
        raise SqlError(
            1701,
            f"Creating or altering table '{table.name}' failed because the minimum row size would be {least}, including"
            f" {internal} bytes of internal overhead. This exceeds the maximum allowable table row size of"
            f" {_ROW_BYTES} bytes.",
        )


def _overhead(table: Table) -> int:
    """Bytes of header, NULL bitmap, and offsets of variable-length columns."""
    varying = sum(_varies(column.type) for column in table.columns)
    return 6 + (len(table.columns) + 7) // 8 + (2 + 2 * varying if varying else 0)


def _key(table: Table) -> list[TableColumn]:
    return [column for name in table.key if (column := table.column(name)) is not None]


def _varies(declared: SqlType) -> bool:
    return declared.name in ("nvarchar", "varchar", "varbinary")


def _least_bytes(column: TableColumn) -> int:
    return 0 if _varies(column.type) else _most_bytes(column)


def _most_bytes(column: TableColumn) -> int:
    declared = column.type
    if declared.length == MAX:
        return 2**31
    if declared.is_text:
        return declared.length * (2 if declared.name.startswith("n") else 1)
    if declared.is_binary:
        return declared.length
    if declared.name == "decimal":
        return next(size for digits, size in _DIGITS if declared.precision <= digits)
    return _FIXED.get(declared.name) or declared.bytes


def _bytes(column: TableColumn, at_most: int = 0) -> str:
    """Bytes of a value, as DuckDB's SQL; at most `at_most`, unless that is zero."""
    name, declared = quote(column.name), column.type
    if not _varies(declared):
        return str(_most_bytes(column))
    if declared.is_binary:
        size = f"octet_length({name})"
    elif declared.name == "nvarchar":
        size = f"2 * (length({name}) + length(regexp_replace({name}, '[^\\x{{10000}}-\\x{{10FFFF}}]', '', 'g')))"
    else:
        size = f"length({name})"
    size = f"coalesce({size}, 0)"
    return f"least({size}, {at_most})" if at_most else size
