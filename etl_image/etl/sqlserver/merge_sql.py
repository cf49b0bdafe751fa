"""T-SQL that applies the rows of a staging table to the sink table.

No MERGE, because of its known concurrency bugs: UPDATE and INSERT in one transaction under an application lock do the
same. In every statement t is the sink table and s the staging table.
"""

from etl.model.pipeline import Pipeline
from etl.model.table_name import TableName
from etl.model.window import Partition
from etl.sqlserver.sql import key_texts, mark_names, quote_name, quote_names, quote_table

_NOW = "SYSUTCDATETIME()"


def update_newer(pipeline: Pipeline, staging: TableName, partition: Partition) -> str:
    """Update the rows of the sink that are in staging at a newer version, and those that the window refreshes."""
    outdated, _ = _versions(pipeline, partition)
    return update_rows(pipeline, staging, outdated, partition)


def update_rows(pipeline: Pipeline, staging: TableName, condition: str, partition: Partition | None = None) -> str:
    """Update the rows t of the sink from those s of their key in staging, where a condition holds; removes marks."""
    columns = [quote_name(name) for name in pipeline.columns if name not in pipeline.key]
    marks = [f"t.{quote_name(name)} = NULL" for name in mark_names(pipeline)]
    assignments = ", ".join([*(f"t.{name} = s.{name}" for name in columns), *marks, *stamp(pipeline)])
    return (
        f"UPDATE t SET {assignments} FROM {quote_table(pipeline.sink)} AS t JOIN {quote_table(staging)} AS s"
        f" ON {same_key(pipeline, partition)} WHERE {condition}"
    )


def is_marked(pipeline: Pipeline) -> list[str]:
    """Conditions: row t is marked as gone; none if the pipeline marks none."""
    return [f"t.{quote_name(name)} IS NOT NULL" for name in mark_names(pipeline)]


def insert_missing(pipeline: Pipeline, staging: TableName, partition: Partition) -> str:
    """Insert the rows of staging whose key is not in the sink."""
    selected = ", ".join([*(f"s.{quote_name(name)}" for name in pipeline.columns), *_now(pipeline)])
    return (
        f"INSERT INTO {quote_table(pipeline.sink)} ({_written(pipeline)}) SELECT {selected}"
        f" FROM {quote_table(staging)} AS s WHERE NOT EXISTS"
        f" (SELECT 1 FROM {quote_table(pipeline.sink)} AS t WHERE {same_key(pipeline, partition)})"
    )


def count_present(pipeline: Pipeline, staging: TableName, partition: Partition) -> str:
    """One row of three counts of the rows of staging.

    Rows whose key is in the sink; of these, the rows that `update_newer` leaves unchanged; and rows that are in the
    sink at their version, or at a newer one if the window does not overwrite it.
    """
    outdated, present = _versions(pipeline, partition)
    # SQL Server refuses an aggregate over a subquery (error 130), which `outdated` may have.
    return (
        "SELECT COUNT_BIG(*), COUNT_BIG([unchanged]), COUNT_BIG([present]) FROM (SELECT"
        f" CASE WHEN {present} AND NOT ({outdated}) THEN 1 END AS [unchanged],"
        f" CASE WHEN {present} THEN 1 END AS [present]"
        f" FROM {quote_table(pipeline.sink)} AS t JOIN {quote_table(staging)} AS s ON {same_key(pipeline, partition)})"
        " AS compared"
    )


def find_changed(pipeline: Pipeline, staging: TableName, partition: Partition) -> str:
    """One of the rows of staging that are in the sink with other values: its key as text; no row if there is none."""
    changed, _ = _versions(pipeline, partition)
    return (
        f"SELECT TOP (1) {', '.join(key_texts(pipeline))} FROM {quote_table(staging)} AS s WHERE EXISTS"
        f" (SELECT 1 FROM {quote_table(pipeline.sink)} AS t WHERE {same_key(pipeline, partition)} AND ({changed}))"
    )


def insert_all(pipeline: Pipeline, staging: TableName) -> str:
    """Insert the rows of staging into an empty sink; SQL Server sorts them by key, and logs pages instead of rows."""
    selected = ", ".join([*map(quote_name, pipeline.columns), *_now(pipeline)])
    return (
        f"INSERT INTO {quote_table(pipeline.sink)} WITH (TABLOCK) ({_written(pipeline)})"
        f" SELECT {selected} FROM {quote_table(staging)}"
    )


def stamp(pipeline: Pipeline) -> list[str]:
    """The assignment of an UPDATE of t that sets the time of the load, if the pipeline has a column for it."""
    return [f"t.{quote_name(pipeline.loaded_at)} = {_NOW}"] if pipeline.loaded_at else []


def _written(pipeline: Pipeline) -> str:
    """The columns of an INSERT."""
    return quote_names([*pipeline.columns, *filter(None, [pipeline.loaded_at])])


def _now(pipeline: Pipeline) -> list[str]:
    """The value of an INSERT for the time of the load, the same in all its rows."""
    return [_NOW] if pipeline.loaded_at else []


def _versions(pipeline: Pipeline, partition: Partition) -> tuple[str, str]:
    """Conditions for rows t and s of one key: t is to be overwritten; and t is at a right version afterwards."""
    version = quote_name(pipeline.version_column)
    same = f"t.{version} = s.{version}"
    if pipeline.mode == "append":  # the load is refused if a row was to be overwritten
        return f"t.{version} <> s.{version} OR {differs(pipeline)}", "1 = 1"
    # A row that is marked as gone is there again, at whatever version: its key may have been assigned anew.
    marked = is_marked(pipeline)
    older = " OR ".join([f"t.{version} < s.{version}", *marked])
    refresh = partition.window.refresh
    if refresh == "newer":
        return older, f"t.{version} >= s.{version}"
    differing = f"({same} AND {differs(pipeline)})"
    if refresh == "differing":
        return f"{older} OR {differing}", f"t.{version} >= s.{version}"
    return " OR ".join([f"t.{version} <> s.{version}", differing, *marked]), same


def differs(pipeline: Pipeline) -> str:
    """A condition: the values of t and s beside the key differ; NULL equals NULL, and texts are compared as bytes.

    Collations do not distinguish all texts. Comparisons of bytes ignore trailing zeros, so lengths are compared too.
    """

    def compared(alias: str) -> str:
        values = []
        for name, column in pipeline.types.items():
            if name not in pipeline.key and (name != pipeline.version or pipeline.is_log):
                value = f"{alias}.{quote_name(name)}"
                values.append(f"CONVERT(varbinary(max), {value})" if column.is_text else value)
                if column.name == "bytea":
                    values.append(f"DATALENGTH({value})")
        return ", ".join(values or ["1"])

    return f"EXISTS (SELECT {compared('s')} EXCEPT SELECT {compared('t')})"


def same_key(pipeline: Pipeline, partition: Partition | None = None) -> str:
    """A condition: t and s have the same key; within the bounds of a partition, if one is given."""
    conditions = [f"t.{quote_name(name)} = s.{quote_name(name)}" for name in pipeline.key]
    # The bounds let the server read a part of a large table only. Integers only: other types may have another order
    # than at the source.
    first = pipeline.key[0]
    if partition and pipeline.types[first].is_integer:
        for operator, bound in ((">=", partition.lower), ("<=", partition.upper)):
            if bound is not None:
                conditions.append(f"t.{quote_name(first)} {operator} {int(bound[0])}")
    return " AND ".join(conditions)
