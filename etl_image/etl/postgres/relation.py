"""The source of a pipeline as an item of FROM: its table, or a query that gives its columns their names in the sink."""

from etl.model.pipeline import Pipeline
from etl.postgres.expression import render
from etl.postgres.quoting import quote_name, quote_table, quote_text


def source_rows(pipeline: Pipeline, alias: str = "") -> str:
    """The rows of the source, with the columns under the names that the pipeline gives them.

    Postgres merges such a query with the one around it, so that indexes are used as without. `alias`: if one is needed.
    """
    table = quote_table(pipeline.source)
    if all(pipeline.sources.get(name) == name for name in pipeline.columns):
        return f"{table} AS {alias}" if alias else table
    columns = ", ".join(f"{_value(pipeline, name)} AS {quote_name(name)}" for name in pipeline.columns)
    return f"(SELECT {columns} FROM {table}) AS {alias or 'source'}"


def _value(pipeline: Pipeline, name: str) -> str:
    if name in pipeline.sources:
        return quote_name(pipeline.sources[name])
    if name in pipeline.expressions:
        return render(pipeline.expressions[name])
    kind = pipeline.types[name]
    # Without a length, to which Postgres would cut it.
    type_name, zone = "bpchar" if kind.name == "char" else kind.name, "+00" if kind.name == "timestamptz" else ""
    return f"{quote_text(pipeline.constants[name] + zone)}::{type_name}"
