"""A pipeline's filter as a condition of Postgres, for pushdown.

DuckDB classifies each row that the source sends, with pushdown and without. The source may therefore omit only rows
that DuckDB would drop: the condition is true for every row that it would keep, and for every row that it would reject
for a column that the filter reads. predicate.py accepts only filters on which both decide alike.
"""

from collections.abc import Mapping

from etl.model.column_types import ColumnType
from etl.model.pipeline import Pipeline
from etl.model.predicate import predicate_columns
from etl.model.predicate_sql import Renderer
from etl.model.source_type import SourceTypes, reads
from etl.postgres.quoting import quote_name, quote_text


def pushdown_condition(pipeline: Pipeline, source: SourceTypes) -> str:
    """The condition for rows that may be kept or rejected."""
    types = pipeline.types
    sql = Postgres({name: read.format(quote_name(name)) for name, read in reads(types, source).items()})
    undecided = [
        _undecided(sql.sent(name), types[name], name in pipeline.key)
        for name in sorted(predicate_columns(pipeline.predicate))
    ]
    decided = sql.condition(pipeline.predicate)
    return " OR ".join(f"({each})" for each in (decided, *undecided) if each)


class Postgres(Renderer):
    """SQL of Postgres. `sent` has the expressions of columns that are sent as something else than they are."""

    def __init__(self, sent: Mapping[str, str]) -> None:
        self._sent = sent

    def sent(self, name: str) -> str:
        """A column as it is sent."""
        return self._sent.get(name, quote_name(name))

    def column(self, name: str, type_: ColumnType) -> str:
        """A column as it is sent; text compared by bytes, char without the spaces that pad it."""
        return f'({self.sent(name)}::text COLLATE "C")' if type_.is_text else self.sent(name)

    def literal(self, text: str, type_: ColumnType) -> str:
        """A literal of a type."""
        if type_.name in ("bigint", "numeric", "boolean"):
            return text
        # The source's time zone is not known here; the filter's times are in UTC.
        zone = "+00" if type_.name == "timestamptz" else ""
        return f"{quote_text(text + zone)}::{type_.name}"

    def cast(self, value: str, type_: ColumnType) -> str:  # noqa: ARG002  # a numeric has as many digits as it needs
        """A number as a numeric, which holds any digits exactly."""
        return f"({value})::numeric"

    def cased(self, value: str, case: str) -> str:
        """In the locale C, in which only a to z have case."""
        return f'{case}({value} COLLATE "C")'


def _undecided(value: str, column: ColumnType, is_key: bool) -> str:
    """A condition that is true for every value that steps/type_rules.py rejects, and possibly for others."""
    checks = [] if column.nullable else [f"{value} IS NULL"]
    match column.row.check:
        case "digits":
            # NaN is the greatest of numbers in Postgres.
            limit = 10 ** ((column.precision or 0) - (column.scale or 0))
            checks += [f"abs({value}) >= {limit}", f"{value} <> round({value}, {column.scale})"]
        case "length":
            # A text has no more UTF-16 code units than bytes, nor than twice its characters.
            checks.append(
                f"octet_length({value}::text) > {column.length} AND char_length({value}::text) * 2 > {column.length}"
            )
        case "finite":
            checks.append(f"{value}::float8 IN ('NaN', 'Infinity', '-Infinity')")
        case "date":
            checks.append(f"{value} NOT BETWEEN '0001-01-01'::date AND '9999-12-31'::date")
        case "timestamp":
            first, last = (Postgres({}).literal(text, column) for text in ("0001-01-01", "9999-12-31 23:59:59.999999"))
            checks.append(f"{value} NOT BETWEEN {first} AND {last}")
        case "time":
            checks.append(f"{value} = '24:00:00'::time")
    if is_key and column.name == "varchar":
        checks.append(f"right({value}::text, 1) = ' '")
    return " OR ".join(f"({check})" for check in checks)
