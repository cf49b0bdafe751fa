"""Values out of range as SQL of Postgres, which changes them: the driver makes some of them others, and the same.

It adds 30 years to a time without a check, so that infinity and -infinity arrive as neighbours.
"""

from collections.abc import Mapping

from etl.model.column_types import ColumnType
from etl.model.pipeline import Pipeline
from etl.postgres.quoting import quote_text

_LARGEST = {"real": "3.4028235e38", "double precision": "1.7976931348623157e308"}


def within(value: str, column: ColumnType, rule: str) -> tuple[str, str]:
    """The value with the rule `null` or `edge` applied, and the condition for those that this changes."""
    low, high, least, most = _range(value, column)
    # NaN is greater than every number in Postgres. It has no edge.
    is_nan = f"{value} = 'NaN'" if column.row.check in ("finite", "digits") else "false"
    if rule == "null":
        condition = f"{is_nan} OR {low} OR {high}"
        return f"CASE WHEN {condition} THEN NULL ELSE {value} END", condition
    edges = f"CASE WHEN {is_nan} THEN {value} WHEN {low} THEN {least} WHEN {high} THEN {most} ELSE {value} END"
    return edges, f"NOT ({is_nan}) AND ({low} OR {high})"


def list_adjusted(pipeline: Pipeline, sent: Mapping[str, str]) -> str:
    """The names of the columns of a row that are changed, separated by tabs, which no name has; null if none is."""
    cases = ", ".join(
        f"CASE WHEN {within(sent[name], pipeline.types[name], pipeline.beyond[name])[1]} THEN {quote_text(name)} END"
        for name in pipeline.adjusted_columns
    )
    return f"nullif(concat_ws(E'\\t', {cases}), '')"


def _range(value: str, column: ColumnType) -> tuple[str, str, str, str]:
    """Conditions for a value below and above the type's range, and the least and the last value of the type."""
    match column.row.check:
        case "digits":
            # More decimals than declared are not out of range: such a value stays, and is refused.
            whole, scale = (column.precision or 0) - (column.scale or 0), column.scale or 0
            most = f"({10**whole} - {'0.' + '0' * (scale - 1) + '1' if scale else '1'})"
            return f"{value} <= -{10**whole}", f"{value} >= {10**whole}", f"-{most}", most
        case "finite":
            least, most = (f"'{sign}{_LARGEST[column.name]}'::{column.name}" for sign in ("-", ""))
        case "time":
            least, most = "'00:00:00'::time", "'23:59:59.999999'::time"
        case "date":
            least, most = "'0001-01-01'::date", "'9999-12-31'::date"
        case _:
            zone = "+00" if column.name == "timestamptz" else ""
            least, most = (
                f"'{at}{zone}'::{column.name}" for at in ("0001-01-01 00:00:00", "9999-12-31 23:59:59.999999")
            )
    return f"{value} < {least}", f"{value} > {most}", least, most
