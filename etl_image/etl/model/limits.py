"""SQL Server's limits of keys and rows ("Maximum capacity specifications"), checked when a pipeline is declared.

The server itself would refuse some of it when the table is created, some only when a long value arrives.
"""

from collections.abc import Mapping, Sequence

from etl.model.column_types import ColumnType

KEY_COLUMNS = 32
"""Columns of an index key (error 1904)."""
KEY_BYTES = 900
"""Bytes of a clustered index key, which the primary key is (errors 1944 and 1946)."""
ROW_BYTES = 8060
"""Bytes of a row, without columns that may be stored off-row (error 1701)."""
_DECIMAL_BYTES = ((9, 5), (19, 9), (28, 13), (38, 17))
# Row header, and header of the null bitmap, which has a bit for each column.
_ROW_HEADERS = 6
_MOST_NAMED = 5


def check_limits(types: Mapping[str, ColumnType], key: Sequence[str]) -> None:
    """Raise ValueError, with a sentence, for a table that SQL Server cannot create or whose keys may be too long."""
    if len(key) > KEY_COLUMNS:
        raise ValueError(f"key: it has {len(key)} columns; an index key of SQL Server has {KEY_COLUMNS} at most")
    sizes = {name: _bytes(types[name]) for name in key}
    if sum(sizes.values()) > KEY_BYTES:
        raise ValueError(
            f"key: it may have {sum(sizes.values())} bytes ({_longest(types, sizes)}); a clustered index key of SQL"
            f" Server has {KEY_BYTES} at most. A character takes two bytes"
        )
    fixed = {name: _bytes(column) for name, column in types.items() if column.is_fixed and column.name != "boolean"}
    bits = sum(column.name == "boolean" for column in types.values())
    row = sum(fixed.values()) + _in_bytes(bits) + _in_bytes(len(types)) + _ROW_HEADERS
    if row > ROW_BYTES:
        raise ValueError(
            f"columns: those of a fixed size make each row {row} bytes long ({_longest(types, fixed)}); a row of"
            f" SQL Server has {ROW_BYTES} at most. Declare a long char as varchar, which does not count"
        )


def _bytes(column: ColumnType) -> int:
    """Bytes of the longest value."""
    if column.name == "numeric":
        return next(size for digits, size in _DECIMAL_BYTES if (column.precision or 0) <= digits)
    return column.row.bytes or 2 * (column.length or 0)


def _in_bytes(bits: int) -> int:
    return (bits + 7) // 8


def _longest(types: Mapping[str, ColumnType], sizes: Mapping[str, int]) -> str:
    """The longest columns, with their bytes."""
    longest = sorted(sizes, key=lambda name: -sizes[name])
    named = [f"{name} {types[name]}: {sizes[name]}" for name in longest[:_MOST_NAMED]]
    return ", ".join([*named, *(["…"] if len(longest) > _MOST_NAMED else [])])
