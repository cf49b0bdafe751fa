"""A pipeline's filter as a condition of Postgres, for pushdown.

DuckDB judges each row that the source sends, with pushdown as without. What the source leaves out must therefore be
what DuckDB would drop: the condition is true for every row that it would keep, and for every row that it would reject
because something is wrong in a column that the filter reads. `check_pushdown` lets through what both decide alike.
"""

from collections.abc import Mapping
from datetime import datetime

from sqlglot import exp

from etl.column_types import ColumnType
from etl.pipeline import Pipeline
from etl.predicate import COMPARISONS, predicate_columns
from etl.source_text import quote_name, quote_text


def wanted(pipeline: Pipeline) -> str:
    """The rows that may be kept or rejected."""
    types = pipeline.types
    undecided = [
        _undecided(name, types[name], name in pipeline.key) for name in sorted(predicate_columns(pipeline.predicate))
    ]
    return " OR ".join(each for each in (f"({_rendered(pipeline.predicate, types)})", *undecided) if each)


def _rendered(predicate: exp.Expression, types: Mapping[str, ColumnType]) -> str:
    def exact(node: exp.Expression) -> exp.Expression:
        # A literal means what the columns that it is compared with say.
        if isinstance(node, exp.Literal) and node.is_string:
            comparison = node.find_ancestor(*COMPARISONS)
            column = comparison.find(exp.Column) if comparison else None
            return exp.var(_literal(node.this, types[column.name] if column else ColumnType("text")))
        return exp.var(_column(node.name, types[node.name])) if isinstance(node, exp.Column) else node

    # All are read before any is replaced: a literal asks for the column next to it.
    copy = predicate.copy()
    replaced = [(node, exact(node)) for node in copy.find_all(exp.Literal, exp.Column)]
    if len(replaced) == 1 and replaced[0][0] is copy:
        return str(replaced[0][1].sql("postgres"))
    for node, by in replaced:
        node.replace(by)
    return str(copy.sql("postgres"))


def _column(name: str, column: ColumnType) -> str:
    """A column as DuckDB is to compare it: text byte by byte, char without the spaces that pad it."""
    # Of a document it is only asked whether it is null, and to write one as text costs time.
    if column.is_text and column.name not in ("json", "jsonb"):
        return f'({quote_name(name)}::text COLLATE "C")'
    return quote_name(name)


def _literal(text: str, column: ColumnType) -> str:
    if column.name in ("timestamp", "timestamptz"):
        zone = "+00" if column.name == "timestamptz" else ""
        return f"{quote_text(datetime.fromisoformat(text).isoformat(sep=' ') + zone)}::{column.name}"
    return f"{quote_text(text)}::{'text' if column.is_text else column.name}"


def _undecided(name: str, column: ColumnType, is_key: bool) -> str:
    """True wherever the contract (contract.py) says that something is wrong with the column, perhaps elsewhere too."""
    value = quote_name(name)
    checks = [] if column.nullable else [f"{value} IS NULL"]
    match column.name:
        case "numeric":
            # NaN is the greatest of numbers in Postgres.
            limit = 10 ** ((column.precision or 0) - (column.scale or 0))
            checks += [f"abs({value}) >= {limit}", f"{value} <> round({value}, {column.scale})"]
        case "varchar" | "char":
            # A text has no more UTF-16 code units than bytes, nor than twice its characters.
            checks.append(
                f"octet_length({value}::text) > {column.length} AND char_length({value}::text) * 2 > {column.length}"
            )
        case "real" | "double precision":
            checks.append(f"{value}::float8 IN ('NaN', 'Infinity', '-Infinity')")
        case "date":
            checks.append(f"{value} NOT BETWEEN '0001-01-01'::date AND '9999-12-31'::date")
        case "timestamp" | "timestamptz":
            first, last = _literal("0001-01-01", column), _literal("9999-12-31 23:59:59.999999", column)
            checks.append(f"{value} NOT BETWEEN {first} AND {last}")
        case "time":
            checks.append(f"{value} = '24:00:00'::time")
    if is_key and column.name == "varchar":
        checks.append(f"right({value}::text, 1) = ' '")
    return " OR ".join(f"({check})" for check in checks)
