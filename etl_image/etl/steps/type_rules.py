"""Type rules as DuckDB expressions: the value in the sink's type, and the reason why a value is rejected.

`raw` is the expression of the staged value. Names of columns occur in reasons only, as text literals. Staged rows hold
the source's values (numeric as text, uuid, UTC timestamps); nothing is rounded, cut or shifted on the way to the sink's
type: a value that does not fit exactly is rejected.
"""

from etl.model.column_types import ColumnType

_DATES = "DATE '0001-01-01' AND DATE '9999-12-31'"
# Microseconds since 1970 of 0001-01-01 00:00:00 and 9999-12-31 23:59:59.999999: as numbers, because the source's
# infinity arrives as a number that calendar functions refuse.
_TIMES = "-62135596800000000 AND 253402300799999999"

_MOST_TEXT = 1_000_000
"""Characters, or bytes, of a rejected row's value that are kept; a byte may take four characters."""


def quote_text(value: str) -> str:
    """A DuckDB string literal."""
    return "'" + value.replace("'", "''") + "'"


def converted(raw: str, column: ColumnType) -> str:
    """The staged value `raw` in the sink's type; NULL if `breach` gives a reason against it."""
    match column.name:
        case "numeric":
            return f"TRY_CAST({raw} AS {column.duckdb})"
        case "timestamptz":
            # SQL Server's datetime2 has no zone: UTC is written.
            return f"CASE WHEN {_fits_time(raw)} THEN make_timestamp(epoch_us({raw})) END"
        case "char":
            # Trailing spaces of char are not significant in Postgres, and SQL Server pads again.
            return f"rtrim({raw}, ' ')"
        case _:
            return f"{raw}::{column.duckdb}"


def breach(name: str, raw: str, column: ColumnType, is_key: bool) -> str | None:
    """An expression for the reason why the value `raw` is rejected, NULL for a valid one.

    None if every value of the column is valid.
    """
    checks = _checks(raw, column, is_key)
    cases = " ".join(f"WHEN {condition} THEN {quote_text(f'{name} {words}')}" for condition, words in checks)
    return f"CASE {cases} END" if checks else None


def is_breach(raw: str, column: ColumnType, is_key: bool) -> str | None:
    """An expression that is true where `breach` gives a reason, and faster."""
    checks = _checks(raw, column, is_key)
    return " OR ".join(f"coalesce({condition}, false)" for condition, _ in checks) or None


def as_text(raw: str, column: ColumnType) -> str:
    """A value of the source as text; a very long one cut, with its number of bytes."""
    if not column.is_unbounded:
        return f"{raw}::VARCHAR"
    size = f"octet_length({raw})" if column.name == "bytea" else f"strlen({raw})"
    begin = f"{raw}[1:{_MOST_TEXT}]" if column.name == "bytea" else f"left({raw}, {_MOST_TEXT})"
    cut = f"{begin}::VARCHAR || '… (' || {size} || ' bytes)'"
    return f"CASE WHEN {size} > {_MOST_TEXT} THEN {cut} ELSE {raw}::VARCHAR END"


def _checks(raw: str, column: ColumnType, is_key: bool) -> list[tuple[str, str]]:
    """Conditions, each with the reason if it is true."""
    checks = [] if column.nullable else [(f"{raw} IS NULL", "is null but required")]
    match column.row.check:
        case "digits":
            checks.append((f"NOT regexp_full_match({raw}, '{_digits(column)}')", f"is not exactly a {column.tsql}"))
        case "length":
            checks.append((_too_long(converted(raw, column), column.length or 0), f"is longer than {column.tsql}"))
        case "finite":
            checks.append((f"NOT isfinite({raw})", "is not a finite number"))
        case "date":
            checks.append((f"NOT ({raw} BETWEEN {_DATES})", "is outside the years 1 to 9999"))
        case "timestamp":
            checks.append((f"NOT {_fits_time(raw)}", "is outside the years 1 to 9999"))
        case "time":
            checks.append((f"{raw} = TIME '24:00:00'", "is 24:00:00, which SQL Server's time does not have"))
    if is_key and column.name == "varchar":
        # SQL Server pads before it compares, so 'a' and 'a ' would be one key.
        checks.append((f"suffix({raw}, ' ')", "ends in a space, which SQL Server does not tell apart in a key"))
    return checks


def _fits_time(raw: str) -> str:
    return f"(epoch_us({raw}) BETWEEN {_TIMES})"


def _digits(column: ColumnType) -> str:
    """A pattern of the decimal numbers that the type holds exactly; trailing zeros do not count."""
    precision, scale = column.precision or 0, column.scale or 0
    whole = f"(0|[1-9][0-9]{{0,{precision - scale - 1}}})" if precision > scale else "0"
    return rf"-?{whole}(\.[0-9]{{0,{scale}}}0*)?"


def _too_long(raw: str, length: int) -> str:
    # nvarchar(n) counts UTF-16 code units: a character outside the basic plane takes two. A text has at most as many of
    # them as bytes, which DuckDB knows without counting, and at least a third; CASE counts for the texts between only.
    beyond = f"length(regexp_replace({raw}, '[^\\x{{10000}}-\\x{{10FFFF}}]', '', 'g'))"
    return (
        f"CASE WHEN strlen({raw}) <= {length} THEN false WHEN strlen({raw}) > {3 * length} THEN true"
        f" ELSE length({raw}) + {beyond} > {length} END"
    )
