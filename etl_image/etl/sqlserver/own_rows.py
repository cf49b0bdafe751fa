"""T-SQL for the rows of a pipeline in a sink table that several pipelines may share.

A constant in the key says whose a row is: they are those with the pipeline's own constants. Without one they are all.
"""

from etl.model.pipeline import Pipeline
from etl.sqlserver.sql import as_text, count_rows, key_texts, mark_names, quote_name, quote_table, quote_text


def owned(pipeline: Pipeline, table: str = "") -> list[str]:
    """Conditions: a row is of the pipeline; none if all are. `table`: an alias and a dot."""
    return [
        f"{table}{quote_name(name)} = {value if pipeline.types[name].is_integer else quote_text(value)}"
        for name, value in pipeline.own_key.items()
    ]


def standing(pipeline: Pipeline, table: str = "", *, has_mark: bool = True) -> list[str]:
    """Conditions: a row is of the pipeline, and not marked as gone; none if all are so. `table`: an alias and a dot.

    `has_mark`: whether the sink table has the column of marks, which the first load of a pipeline that marks adds.
    """
    marks = mark_names(pipeline) if has_mark else []
    return [*owned(pipeline, table), *(f"{table}{quote_name(name)} IS NULL" for name in marks)]


def count_own(pipeline: Pipeline) -> str:
    """One row: how many rows of the sink table are of the pipeline."""
    return f"{count_rows(pipeline.sink)} WHERE {' AND '.join([*owned(pipeline), '1 = 1'])}"


def any_value(pipeline: Pipeline, name: str) -> str:
    """One row if a row of the pipeline has a value in a column, else none."""
    conditions = " AND ".join([*owned(pipeline), f"{quote_name(name)} IS NOT NULL"])
    return f"SELECT TOP (1) 1 FROM {quote_table(pipeline.sink)} WHERE {conditions}"


def newest_rows(pipeline: Pipeline, count: int, *, has_mark: bool = True) -> str:
    """The newest rows of the pipeline: each column of the key as text, or as a number, and the version as text.

    `has_mark`: as of `standing`.
    """
    texts = [*key_texts(pipeline), as_text(pipeline, pipeline.version_column)]
    conditions = [*standing(pipeline, has_mark=has_mark), "1 = 1"]
    return (
        f"SELECT TOP ({int(count)}) {', '.join(texts)}"
        f" FROM {quote_table(pipeline.sink)} WHERE {' AND '.join(conditions)}"
        f" ORDER BY {quote_name(pipeline.version_column)} DESC"
    )
