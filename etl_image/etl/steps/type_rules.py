"""The contract of a column, as DuckDB expressions: the value in the sink's type, and what is wrong with it in words.

`raw` is the expression of the staged value: of the names that others chose, only messages contain one, as text.
Staged rows hold what the source said (numeric as text, uuid, UTC timestamps); nothing is rounded, cut or shifted on
the way to the sink's type: what does not fit exactly is told.
"""

from etl.model.column_types import ColumnType

_DATES = "DATE '0001-01-01' AND DATE '9999-12-31'"
# Microseconds since 1970 of 0001-01-01 00:00:00 and 9999-12-31 23:59:59.999999: as plain numbers, because the source's
# infinity arrives as a number that no calendar function takes.
_TIMES = "-62135596800000000 AND 253402300799999999"

_MOST_TEXT = 1_000_000
"""So many characters, or bytes, of a rejected row's value are shown: a byte may take four characters."""


def quote_text(value: str) -> str:
    """A DuckDB string literal."""
    return "'" + value.replace("'", "''") + "'"


def converted(raw: str, column: ColumnType) -> str:
    """The staged value `raw` in the type that the sink takes; NULL where `breach` tells that it cannot be."""
    match column.name:
        case "numeric":
            return f"TRY_CAST({raw} AS {column.duckdb})"
        case "timestamptz":
            # SQL Server's datetime2 knows no zone: UTC is written.
            return f"CASE WHEN {_fits_time(raw)} THEN make_timestamp(epoch_us({raw})) END"
        case "char":
            # Spaces at its end mean nothing in Postgres, and SQL Server pads again.
            return f"rtrim({raw}, ' ')"
        case _:
            return f"{raw}::{column.duckdb}"


def breach(name: str, raw: str, column: ColumnType, is_key: bool) -> str | None:
    """An expression that is NULL where the value `raw` of a column is right and says what is wrong with it otherwise.

    None where every value of the column is right.
    """
    checks = _checks(raw, column, is_key)
    cases = " ".join(f"WHEN {condition} THEN {quote_text(f'{name} {words}')}" for condition, words in checks)
    return f"CASE {cases} END" if checks else None


def is_breach(raw: str, column: ColumnType, is_key: bool) -> str | None:
    """An expression that is true where `breach` says that something is wrong, and quicker to tell."""
    checks = _checks(raw, column, is_key)
    return " OR ".join(f"coalesce({condition}, false)" for condition, _ in checks) or None


def as_text(raw: str, column: ColumnType) -> str:
    """A value as the source had it, as text; of a very long one the beginning, and how many bytes it has."""
    if not column.is_unbounded:
        return f"{raw}::VARCHAR"
    size = f"octet_length({raw})" if column.name == "bytea" else f"strlen({raw})"
    begin = f"{raw}[1:{_MOST_TEXT}]" if column.name == "bytea" else f"left({raw}, {_MOST_TEXT})"
    cut = f"{begin}::VARCHAR || '… (' || {size} || ' bytes)'"
    return f"CASE WHEN {size} > {_MOST_TEXT} THEN {cut} ELSE {raw}::VARCHAR END"


def _checks(raw: str, column: ColumnType, is_key: bool) -> list[tuple[str, str]]:
    """Conditions, each with what is wrong where it is true, in words."""
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
        # SQL Server pads before it compares: 'a' and 'a ' would be one key.
        checks.append((f"suffix({raw}, ' ')", "ends in a space, which SQL Server does not tell apart in a key"))
    return checks


def _fits_time(raw: str) -> str:
    return f"(epoch_us({raw}) BETWEEN {_TIMES})"


def _digits(column: ColumnType) -> str:
    """A pattern of the decimal numbers that the type holds exactly; zeros behind the last digit do not count."""
    precision, scale = column.precision or 0, column.scale or 0
    whole = f"(0|[1-9][0-9]{{0,{precision - scale - 1}}})" if precision > scale else "0"
    return rf"-?{whole}(\.[0-9]{{0,{scale}}}0*)?"


def _too_long(raw: str, length: int) -> str:
    # nvarchar(n) counts UTF-16 code units: a character beyond the basic plane takes two. No text has more of them than
    # bytes, which DuckDB knows without counting, nor fewer than a third; CASE looks closer at the few texts between.
    beyond = f"length(regexp_replace({raw}, '[^\\x{{10000}}-\\x{{10FFFF}}]', '', 'g'))"
    return (
        f"CASE WHEN strlen({raw}) <= {length} THEN false WHEN strlen({raw}) > {3 * length} THEN true"
        f" ELSE length({raw}) + {beyond} > {length} END"
    )
