"""T-SQL of a verification: the sink's rows in the pipeline's columns, and the table etl.verification."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from etl.model.pipeline import Pipeline
from etl.model.table_name import TableName
from etl.sqlserver.ledger import VERIFICATION, insert, is_of
from etl.sqlserver.own_rows import standing
from etl.sqlserver.sql import has_key, quote_names, quote_table, quote_text, quote_time

_VERIFICATION = quote_table(VERIFICATION)


def select_rows(pipeline: Pipeline, columns: Sequence[str], *, has_mark: bool, keys: int = 0) -> str:
    """Some columns of the rows of the pipeline, without the marked ones; of so many `keys` only, as parameters.

    `has_mark`: as of `standing`. Columns alone, without expressions: the driver reads those as Arrow.
    """
    conditions = [*standing(pipeline, has_mark=has_mark), "1 = 1"]
    if keys:
        conditions.append(f"({' OR '.join([f'({has_key(pipeline)})'] * keys)})")
    return f"SELECT {quote_names(columns)} FROM {quote_table(pipeline.sink)} WHERE {' AND '.join(conditions)}"


def delete_keys(pipeline: Pipeline, staging: TableName, keys: int) -> str:
    """Delete the rows of so many keys, which are parameters, from a staging table."""
    return f"DELETE FROM {quote_table(staging)} WHERE {' OR '.join([f'({has_key(pipeline)})'] * keys)}"


def write_verification(pipeline: Pipeline, values: Mapping[str, str | int | datetime]) -> list[str]:
    """Put the row of a verification in the place of that of an earlier attempt."""
    run = quote_text(str(values["run_id"]))
    return [
        f"DELETE FROM {_VERIFICATION} WHERE {is_of(pipeline)} AND [run_id] = {run}",
        insert(_VERIFICATION, {"pipeline": pipeline.name, **values}),
    ]


def prune_verifications(pipeline: Pipeline, until: datetime) -> str:
    """Delete rows of the pipeline's verifications that ended before a time."""
    return f"DELETE FROM {_VERIFICATION} WHERE {is_of(pipeline)} AND [ended_at] < {quote_time(until)}"
