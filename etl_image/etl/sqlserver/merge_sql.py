"""The T-SQL by which a load brings the rows of its staging table into the sink table.

No MERGE: its concurrency bugs are long known; UPDATE and INSERT inside one transaction under an application lock do
the same. In all of it t is the sink table and s the staging table.
"""

from etl.model.pipeline import Pipeline, TableName
from etl.model.window import Partition
from etl.sqlserver.sql import quote_name, quote_names, quote_table


def update_newer(pipeline: Pipeline, staging: TableName, partition: Partition) -> str:
    """Overwrite the rows of the sink that are in staging at a newer version, and those that the window refreshes."""
    columns = [quote_name(name) for name in pipeline.columns if name not in pipeline.key]
    assignments = ", ".join(f"t.{name} = s.{name}" for name in columns)
    outdated, _ = _versions(pipeline, partition)
    return (
        f"UPDATE t SET {assignments} FROM {quote_table(pipeline.sink)} AS t JOIN {quote_table(staging)} AS s"
        f" ON {_same_key(pipeline, partition)} WHERE {outdated}"
    )


def insert_missing(pipeline: Pipeline, staging: TableName, partition: Partition) -> str:
    """Add the rows of staging whose key the sink does not have."""
    selected = ", ".join(f"s.{quote_name(name)}" for name in pipeline.columns)
    return (
        f"INSERT INTO {quote_table(pipeline.sink)} ({quote_names(pipeline.columns)}) SELECT {selected}"
        f" FROM {quote_table(staging)} AS s WHERE NOT EXISTS"
        f" (SELECT 1 FROM {quote_table(pipeline.sink)} AS t WHERE {_same_key(pipeline, partition)})"
    )


def count_standing(pipeline: Pipeline, staging: TableName, partition: Partition) -> str:
    """One row of three counts of the rows of staging.

    Those whose key is in the sink; those of them that `update_newer` leaves as they are; and those that are in the sink
    at their version, or at a newer one where that may stay.
    """
    outdated, standing = _versions(pipeline, partition)
    return (
        f"SELECT COUNT_BIG(*), COUNT_BIG(CASE WHEN {standing} AND NOT ({outdated}) THEN 1 END),"
        f" COUNT_BIG(CASE WHEN {standing} THEN 1 END)"
        f" FROM {quote_table(pipeline.sink)} AS t JOIN {quote_table(staging)} AS s ON {_same_key(pipeline, partition)}"
    )


def insert_all(pipeline: Pipeline, staging: TableName) -> str:
    """Add the rows of staging to a sink that is empty; SQL Server sorts them by the key, and logs pages, not rows."""
    names = quote_names(pipeline.columns)
    return (
        f"INSERT INTO {quote_table(pipeline.sink)} WITH (TABLOCK) ({names}) SELECT {names} FROM {quote_table(staging)}"
    )


def _versions(pipeline: Pipeline, partition: Partition) -> tuple[str, str]:
    """Which rows t of the sink the rows s of the same key overwrite, and which versions of t are right afterwards."""
    version = quote_name(pipeline.version)
    older, same = f"t.{version} < s.{version}", f"t.{version} = s.{version}"
    refresh = partition.window.refresh
    if refresh == "newer":
        return older, f"t.{version} >= s.{version}"
    differing = f"({same} AND {_differs(pipeline)})"
    if refresh == "differing":
        return f"{older} OR {differing}", f"t.{version} >= s.{version}"
    return f"t.{version} <> s.{version} OR {differing}", same


def _differs(pipeline: Pipeline) -> str:
    """Whether the values of t and s beside the key differ, where NULL is as NULL, and texts are compared as bytes.

    Collations do not tell all texts apart; comparisons of bytes leave out zeros at the end, so their number counts.
    """

    def compared(alias: str) -> str:
        values = []
        for name, column in pipeline.types.items():
            if name not in pipeline.key and name != pipeline.version:
                value = f"{alias}.{quote_name(name)}"
                values.append(f"CONVERT(varbinary(max), {value})" if column.is_text else value)
                if column.name == "bytea":
                    values.append(f"DATALENGTH({value})")
        return ", ".join(values or ["1"])

    return f"EXISTS (SELECT {compared('s')} EXCEPT SELECT {compared('t')})"


def _same_key(pipeline: Pipeline, partition: Partition) -> str:
    """Where a row of the sink and one of a partition's have the same key."""
    conditions = [f"t.{quote_name(name)} = s.{quote_name(name)}" for name in pipeline.key]
    # Known bounds spare the server going through the whole of a large table for a part of it. Numbers only: others may
    # be ordered otherwise than at the source.
    first = pipeline.key[0]
    if pipeline.types[first].is_integer:
        for operator, bound in ((">=", partition.lower), ("<=", partition.upper)):
            if bound is not None:
                conditions.append(f"t.{quote_name(first)} {operator} {int(bound[0])}")
    return " AND ".join(conditions)
