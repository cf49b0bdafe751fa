"""A column of a pipeline that is more than a type: another name at the source, a constant, or an expression."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from etl.errors import printable
from etl.model.column_types import ColumnType, parse_column_type
from etl.model.expression import parse_expression
from etl.model.names import Identifier, as_sql_server_sees
from etl.model.predicate_literals import literal, number
from etl.model.predicate_values import Term

_MOST_COLUMNS = 1024
_INTEGERS = {"smallint": 2**15, "integer": 2**31, "bigint": 2**63}


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Column:
    """A column of the sink, as `columns` may have it instead of the type alone; one of the others may be given.

    `type`: as without. `source`: the column of the source that it is, if that has another name. `constant`: its value
    in every row, in the form in which a filter has it. `expression`: what the source computes from columns of a row, by
    their names there.
    """

    type: str
    source: Identifier | None = field(default=None, kw_only=True)
    constant: str | int | bool | None = field(default=None, kw_only=True)
    expression: str | None = field(default=None, kw_only=True)


def declared_type(column: str | Column) -> str:
    """The type of a column, as it is declared."""
    return column if isinstance(column, str) else column.type


def source_name(name: str, column: str | Column) -> str | None:
    """The name at the source of the column that the sink has under a name; None for what is no column there."""
    if isinstance(column, str):
        return name
    return column.source or name if column.constant is None and column.expression is None else None


def constant(column: str | Column) -> str | None:
    """The value of a constant column as text, in one form for each value. Raises ValueError for one of another type."""
    if isinstance(column, str) or column.constant is None:
        return None
    type_ = parse_column_type(column.type)
    if type_.row.family not in _READERS:
        raise ValueError(f"a constant cannot be {type_}; it is a text, a number, a boolean, a uuid, a date or a time")
    given = column.constant if isinstance(column.constant, str) else str(column.constant).lower()
    try:
        return _READERS[type_.row.family](type_, given)
    except ValueError as error:
        raise ValueError(f"the constant '{printable(given)}': {error}") from None


def expression(column: str | Column) -> Term | None:
    """The parsed expression of a column. Raises ValueError."""
    return None if isinstance(column, str) or column.expression is None else parse_expression(column.expression)


def check_columns(columns: Mapping[str, str | Column]) -> None:
    """Raise ValueError, with a sentence, for types and values that are none, and names that are alike."""
    if len(columns) > _MOST_COLUMNS:
        raise ValueError(f"{len(columns)} columns; a table of SQL Server has {_MOST_COLUMNS} at most")
    for name, column in columns.items():
        try:
            _check_column(column)
        except ValueError as error:
            raise ValueError(f"column {name}: {error}") from error
    seen = [as_sql_server_sees(name) for name in columns]
    twice = [name for name, alike in zip(columns, seen, strict=True) if seen.count(alike) > 1]
    if twice:
        raise ValueError(
            f"{', '.join(map(repr, sorted(twice)))} differ in case only, or in other forms of the same letters or"
            " spaces at the end, which SQL Server does not tell apart"
        )


def check_sensitive(
    sensitive: Sequence[str], columns: Iterable[str], reads: Mapping[str, set[str]], version: str | None
) -> None:
    """Raise ValueError, with a sentence, for sensitive columns that are not there, or have their values in another."""
    if len(set(sensitive)) != len(sensitive):
        raise ValueError("sensitive: a column is named twice")
    if unknown := [name for name in sensitive if name not in columns]:
        raise ValueError(f"sensitive: '{printable(unknown[0])}' is not among the columns")
    hidden = {read for name in sensitive for read in reads.get(name, ())}
    for name, read in reads.items():
        if name not in sensitive and (found := hidden & read):
            raise ValueError(f"sensitive: '{name}' has values of {printable(min(found))}, too; name it here")
    if version and version in sensitive:
        raise ValueError(f"sensitive: '{version}' is the version, which windows, the watermark and the audit show")


def _check_column(column: str | Column) -> None:
    parse_column_type(declared_type(column))
    if isinstance(column, str):
        return
    if sum(each is not None for each in (column.source, column.constant, column.expression)) > 1:
        raise ValueError("say one of source, constant and expression")
    constant(column)
    expression(column)


def _read_text(type_: ColumnType, value: str) -> str:
    units = len(value.encode("utf-16-le", "surrogatepass")) // 2
    if not value.isprintable() or value.endswith(" ") or units > (type_.length or units):
        raise ValueError(f"it is no {type_} that is printable, without a space at the end")
    return value


def _read_number(type_: ColumnType, value: str) -> str:
    found, text = number(value)
    precision, scale = found.precision or 0, found.scale or 0
    if type_.is_integer:
        limit = _INTEGERS[type_.name]
        fits = scale == 0 and -limit <= int(text) < limit
    else:
        fits = scale <= (type_.scale or 0) and precision - scale <= (type_.precision or 0) - (type_.scale or 0)
    if not fits:
        raise ValueError(f"it is no {type_}")
    return str(int(text)) if type_.is_integer else text


def _read_boolean(_type: ColumnType, value: str) -> str:
    if value not in ("true", "false"):
        raise ValueError("write true or false")
    return value


def _read_literal(type_: ColumnType, value: str) -> str:
    _, text = literal(type_.row.family, None, value)
    return text


_READERS: dict[str, Callable[[ColumnType, str], str]] = {
    "text": _read_text,
    "number": _read_number,
    "boolean": _read_boolean,
    **dict.fromkeys(("uuid", "date", "time", "timestamp", "timestamptz"), _read_literal),
}
"""By the family of types."""
