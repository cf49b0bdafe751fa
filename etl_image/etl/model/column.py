"""A column of a pipeline that is more than a type: another name at the source, a constant, or an expression."""

from collections.abc import Callable
from dataclasses import field

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from etl.errors import printable
from etl.model.column_types import ColumnType, parse_column_type
from etl.model.expression import parse_expression
from etl.model.names import Identifier
from etl.model.predicate_literals import literal, number
from etl.model.predicate_values import Term

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
    """The value of a constant column, as text."""
    if isinstance(column, str) or column.constant is None:
        return None
    return column.constant if isinstance(column.constant, str) else str(column.constant).lower()


def expression(column: str | Column) -> Term | None:
    """The parsed expression of a column. Raises ValueError."""
    return None if isinstance(column, str) or column.expression is None else parse_expression(column.expression)


def check_column(column: str | Column) -> None:
    """Raise ValueError, with a sentence, for a type that cannot be declared or a value that it does not have."""
    type_ = parse_column_type(declared_type(column))
    if isinstance(column, str):
        return
    if sum(each is not None for each in (column.source, column.constant, column.expression)) > 1:
        raise ValueError("say one of source, constant and expression")
    expression(column)
    value = constant(column)
    if value is None:
        return
    check, form = _FORMS.get(type_.row.family, (None, ""))
    if check is None:
        raise ValueError(f"a constant cannot be {type_}; it is a text, a number, a boolean, a uuid, a date or a time")
    try:
        is_right = check(type_, value)
    except ValueError as error:
        raise ValueError(f"the constant '{printable(value)}': {error}") from None
    if not is_right:
        raise ValueError(f"the constant '{printable(value)}' is no {type_}{form}")


def _is_text(type_: ColumnType, value: str) -> bool:
    units = len(value.encode("utf-16-le", "surrogatepass")) // 2
    return value.isprintable() and not value.endswith(" ") and units <= (type_.length or units)


def _is_number(type_: ColumnType, value: str) -> bool:
    found, _ = number(value)
    if type_.is_integer:
        limit = _INTEGERS[type_.name]
        return found.scale == 0 and -limit <= int(number(value)[1]) < limit
    whole = (found.precision or 0) - (found.scale or 0)
    return (found.scale or 0) <= (type_.scale or 0) and whole <= (type_.precision or 0) - (type_.scale or 0)


def _is_boolean(_type: ColumnType, value: str) -> bool:
    return value in ("true", "false")


def _is_written(type_: ColumnType, value: str) -> bool:
    return bool(literal(type_.row.family, None, value))


_FORMS: dict[str, tuple[Callable[[ColumnType, str], bool], str]] = {
    "text": (_is_text, ": printable, without a space at the end, and not longer"),
    "number": (_is_number, ""),
    "boolean": (_is_boolean, ": write true or false"),
    **dict.fromkeys(("uuid", "date", "time", "timestamp", "timestamptz"), (_is_written, "")),
}
