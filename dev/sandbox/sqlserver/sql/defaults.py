"""Defaults of columns: SYSUTCDATETIME() and constants, kept as sys.default_constraints shows them."""

from dev.sandbox.sqlserver.engine.catalogue import TableColumn
from dev.sandbox.sqlserver.sql.batch import Batch
from dev.sandbox.sqlserver.sql.conversions import Expr
from dev.sandbox.sqlserver.sql.expressions import utc_now

_NOW = "(sysutcdatetime())"


def read_default(batch: Batch) -> str:
    """Read what follows DEFAULT."""
    brackets = 0
    while batch.accept("("):
        brackets += 1
    if batch.accept("SYSUTCDATETIME", "(", ")"):
        default = _NOW
    elif batch.token.kind == "text":
        default = "(N'" + batch.take().value.replace("'", "''") + "')"
    else:
        sign = "-" if batch.accept("-") else ""
        default = f"(({sign}{batch.of_kind('number')}))"
    for _ in range(brackets):
        batch.expect(")")
    return default


def default_value(column: TableColumn) -> Expr:
    """The default of a column that has one, in DuckDB's SQL."""
    if column.default == _NOW:
        return utc_now()
    return Expr(f"CAST({column.default[1:-1].removeprefix('N')} AS {column.type.duckdb})", column.type)
