"""Conversions between SQL Server types, as DuckDB's SQL.

Where the two differ: SQL Server truncates decimals and floats to integers, DuckDB rounds them; dates as text differ;
a value that does not fit its column is an error with a specific number.
"""

from dataclasses import dataclass

from dev.sandbox.sqlserver.engine.catalogue import TableColumn
from dev.sandbox.sqlserver.errors import SqlError, collation_conflict
from dev.sandbox.sqlserver.types import BIGINT, FLOAT, INT, MAX, REAL, SqlType, text_type

_TIMES = ("date", "datetime2", "datetimeoffset")
_FIXED = ("nchar", "char")
_INTEGERS = ("bit", "tinyint", "smallint", "int", "bigint")
_ISO_8601 = 126


@dataclass(frozen=True)
class Expr:
    """A value in DuckDB's SQL with its SQL Server type (None: an untyped NULL).

    `column`: it is a plain column. `known`: text that is known before the statement runs.
    """

    sql: str
    type: SqlType | None
    column: bool = False
    known: str | None = None


def convert(value: Expr, target: SqlType) -> str:
    """CAST of the value to another type. Raises SqlError 206 if there is no such conversion."""
    source = value.type
    if source is None:
        return f"CAST(NULL AS {target.duckdb})"
    if target.is_text:
        text = _as_text(value, target)
        return text if target.length == MAX or source == target else f"left({text}, {target.length})"
    if source == target:
        return value.sql
    if source.name in ("decimal", "real", "float") and target.is_integer:
        return f"CAST(trunc({value.sql}) AS {target.duckdb})"
    if source.name in ("decimal", "real", "float") and target.name == "bit":
        return f"({value.sql} <> 0)"
    if (source.is_text and target.is_binary) or not (source.is_text or _family(source) == _family(target)):
        raise _clash(source, target)
    return value.sql if source.is_binary else f"CAST({value.sql} AS {target.duckdb})"


def assign(value: Expr, column: TableColumn, table: str) -> str:
    """The value converted for a column of a table (with database and schema).

    Too long text or binary raises error 2628. nchar is stored without its padding.
    """
    target = column.type
    if not (target.is_text or target.is_binary):
        return convert(value, target)
    sql = _as_text(value, target) if target.is_text else convert(value, target)
    if target.name in _FIXED:
        sql = f"rtrim({sql}, ' ')"
    if target.length == MAX or (value.type == target and value.column):
        return sql
    macro = "standin_fit_text" if target.is_text else "standin_fit_bytes"
    target_name = f"table '{table}', column '{column.name}'".replace("'", "''")
    return f"{macro}({sql}, {target.length}, '{target_name}')"


def convert_styled(value: Expr, target: SqlType, style: int) -> str | None:
    """CONVERT of a datetime2 to text with style 126 (ISO 8601); None for anything else.

    A fraction of zero is omitted, as documented for CAST and CONVERT.
    """
    if style != _ISO_8601 or value.type is None or value.type.name != "datetime2" or not target.is_text:
        return None
    text = f"strftime({value.sql}, '%Y-%m-%dT%H:%M:%S.%f')"
    return f"left(regexp_replace({text}, '\\.000000$', ''), {target.length if target.length != MAX else 33})"


def comparable(left: Expr, right: Expr, operation: str = "equal to") -> tuple[str, str]:
    """Both sides of a comparison in a common type. Raises SqlError 206, or 468 for different collations."""
    if left.type is None or right.type is None:
        return left.sql, right.sql
    if left.type.is_text and right.type.is_text:
        if left.column and right.column and left.type.collation.lower() != right.type.collation.lower():
            raise collation_conflict(left.type.collation, right.type.collation, operation)
        return _comparable_texts(left, right)
    if left.type.is_text:
        return convert(left, right.type), right.sql
    if right.type.is_text:
        return left.sql, convert(right, left.type)
    if _family(left.type) != _family(right.type):
        raise _clash(left.type, right.type)
    return _unbit(left), _unbit(right)


def arithmetic(operator: str, left: Expr, right: Expr) -> Expr | None:
    """`left operator right`; None for unsupported types.

    Result types: https://learn.microsoft.com/sql/t-sql/data-types/precision-scale-and-length-transact-sql
    Division of decimals is unsupported: DuckDB divides them as floats.
    """
    a, b = left.type or INT, right.type or INT
    if operator == "+" and a.is_text and b.is_text:
        longest = max(a.length, b.length) if MAX not in (a.length, b.length) else MAX
        declared = text_type(longest * 2 if longest > 0 else 8000).collated(a.collation or b.collation)
        return Expr(f"({left.sql} || {right.sql})", declared)
    if not (a.is_number and b.is_number):
        return None
    result = _arithmetic_type(operator, a, b)
    if result is None:
        return None
    divisor = f"standin_divisor({_unbit(right)})" if operator in "/%" else _unbit(right)
    if result.is_integer:  # DuckDB would give a literal the narrowest type and overflow in it
        return Expr(f"(CAST({_unbit(left)} AS {result.duckdb}) {operator} {divisor})", result)
    first = left.sql
    if result.name == "decimal":  # of up to 18 digits DuckDB computes in 64 bits, and overflows
        first = f"CAST({_unbit(left)} AS DECIMAL({max(_digits(a), 19)},{a.scale}))"
    return Expr(f"({first} {operator} {divisor})", result)


def common_type(values: list[Expr]) -> SqlType | None:
    """Result type of CASE, COALESCE or UNION: that of the highest precedence."""
    types = [value.type for value in values if value.type is not None]
    if not types:
        return None
    highest = max(types, key=_precedence)
    same = [each for each in types if each.name == highest.name]
    if highest.name == "decimal":
        scale = max(each.scale for each in types)
        whole = max(_digits(each) - each.scale for each in types if each.is_number)
        return SqlType("decimal", precision=min(whole + scale, 38), scale=scale)
    longest = MAX if any(each.length == MAX for each in types) else max(each.length for each in types)
    return SqlType(highest.name, longest, scale=highest.scale, collation=same[0].collation)


def _as_text(value: Expr, target: SqlType) -> str:
    source = value.type
    if source is None:
        return "CAST(NULL AS VARCHAR)"
    if source.is_text:
        return value.sql
    if source.name in ("datetime2", "datetimeoffset"):
        return f"strftime({value.sql}, '%Y-%m-%d %H:%M:%S.%f')"
    if source.name == "time":
        return f"strftime(DATE '2000-01-01' + {value.sql}, '%H:%M:%S.%f')"
    if source.name == "uniqueidentifier":
        return f"upper(CAST({value.sql} AS VARCHAR))"
    if source.name == "date" or source.name in _INTEGERS or source.name == "decimal":
        return f"CAST({_unbit(value)} AS VARCHAR)"
    raise _clash(source, target)


def _comparable_texts(left: Expr, right: Expr) -> tuple[str, str]:
    assert left.type is not None  # both are texts
    assert right.type is not None
    sides = [left.sql, right.sql]
    fixed = [side.type is not None and side.type.name in _FIXED for side in (left, right)]
    if fixed[0] != fixed[1]:  # stored without padding, which does not count in comparisons
        sides[fixed[0]] = f"rtrim({sides[fixed[0]]}, ' ')"
    if left.column and right.column:
        return sides[0], sides[1]
    # The shorter side is padded with spaces before the two are compared.
    sides = [f"rtrim({side}, ' ')" for side in sides]
    collated = left.type if left.type.collation else right.type
    if collated.ignores_case:
        sides[0] = f"{sides[0]} COLLATE NOCASE"
    return sides[0], sides[1]


def _arithmetic_type(operator: str, a: SqlType, b: SqlType) -> SqlType | None:
    if "float" in (a.name, b.name) or "real" in (a.name, b.name):
        return None if operator == "%" else FLOAT if "float" in (a.name, b.name) else REAL
    if "decimal" not in (a.name, b.name):
        return max(a, b, key=_precedence) if "bit" not in (a.name, b.name) else INT
    if operator in "/%":
        return None
    whole = max(_digits(a) - a.scale, _digits(b) - b.scale)
    scale = a.scale + b.scale if operator == "*" else max(a.scale, b.scale)
    precision = _digits(a) + _digits(b) + 1 if operator == "*" else whole + scale + 1
    return SqlType("decimal", precision=min(precision, 38), scale=scale) if scale <= 38 else None


def _digits(declared: SqlType) -> int:
    return declared.precision or {"bit": 1}.get(declared.name) or declared.described[1] or 0


def _precedence(declared: SqlType) -> int:
    order = ("binary", "varbinary", "char", "nchar", "varchar", "nvarchar", "uniqueidentifier", "bit", "tinyint",
             "smallint", "int", "bigint", "decimal", "real", "float", "time", "date", "datetime2",
             "datetimeoffset")  # fmt: skip
    return order.index(declared.name)


def _family(declared: SqlType) -> str:
    if declared.is_number:
        return "number"
    if declared.is_binary:
        return "binary"
    return "day" if declared.name in _TIMES else declared.name


def _unbit(value: Expr) -> str:
    is_bit = value.type is not None and value.type.name == "bit"
    return f"CAST({value.sql} AS {INT.duckdb})" if is_bit else value.sql


def _clash(source: SqlType, target: SqlType) -> SqlError:
    return SqlError(206, f"Operand type clash: {source.name} is incompatible with {target.name}")


def sum_type(declared: SqlType) -> SqlType:
    """The type of SUM over a type."""
    if declared.name == "decimal":
        return SqlType("decimal", precision=38, scale=declared.scale)
    if declared.is_integer:
        return BIGINT if declared == BIGINT else INT
    return FLOAT


def average_type(declared: SqlType) -> SqlType:
    """The type of AVG over a type."""
    if declared.name == "decimal":
        return SqlType("decimal", precision=38, scale=max(declared.scale, 6))
    return sum_type(declared)
