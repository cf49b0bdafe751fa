"""The source of a pipeline as an item of FROM: its table, or a query that gives its columns their names in the sink."""

from etl.model.pipeline import Pipeline
from etl.postgres.quoting import quote_name, quote_table


def source_rows(pipeline: Pipeline, alias: str = "") -> str:
    """The rows of the source, with the columns under the names that the pipeline gives them.

    Postgres merges such a query with the one around it, so that indexes are used as without. `alias`: if one is needed.
    """
    table = quote_table(pipeline.source)
    if all(name == source for name, source in pipeline.sources.items()):
        return f"{table} AS {alias}" if alias else table
    columns = ", ".join(f"{quote_name(source)} AS {quote_name(name)}" for name, source in pipeline.sources.items())
    return f"(SELECT {columns} FROM {table}) AS {alias or 'source'}"
