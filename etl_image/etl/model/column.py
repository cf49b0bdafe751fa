"""A column of a pipeline that is more than a type: it has another name at the source."""

from dataclasses import field

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from etl.model.names import Identifier


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Column:
    """A column of the sink, as `columns` may have it instead of the type alone.

    `type`: as without. `source`: the column of the source that it is, if that has another name.
    """

    type: str
    source: Identifier | None = field(default=None, kw_only=True)


def declared_type(column: str | Column) -> str:
    """The type of a column, as it is declared."""
    return column if isinstance(column, str) else column.type


def source_name(name: str, column: str | Column) -> str:
    """The name at the source of the column that the sink has under a name."""
    return name if isinstance(column, str) or column.source is None else column.source
