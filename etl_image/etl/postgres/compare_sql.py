"""SQL for Postgres by which rows of source and sink are compared without being sent."""

from collections.abc import Sequence

from etl.model.pipeline import Pipeline
from etl.model.source_type import SourceTypes
from etl.postgres.filter import pushdown_condition
from etl.postgres.quoting import quote_name
from etl.postgres.relation import source_rows
from etl.postgres.sql import compared_keys, key_literals


def content_hash(pipeline: Pipeline) -> str:
    """One row: how many rows the source has, the sum of their hashes as text, and the time.

    A sum does not depend on the order of the rows. The text form of a row is unambiguous, also for NULL.
    """
    columns = ", ".join(quote_name(name) for name in pipeline.columns)
    return (
        f"SELECT count(*), coalesce(sum(hashtextextended(ROW({columns})::text, 0)), 0)::text, now()"
        f" FROM {source_rows(pipeline)}"
    )


def has_keys(pipeline: Pipeline, keys: Sequence[Sequence[str]], source: SourceTypes) -> str:
    """The index of each key, as text, that the source has in a row which the filter keeps, or which may be rejected."""
    # A tab is not printable, so no column of a pipeline has such a name.
    places = [quote_name(f"\tk{place}") for place in range(len(pipeline.key))]
    number = quote_name("\tnumber")
    named = ", ".join(f"{quote_name(name)} AS {place}" for name, place in zip(pipeline.key, places, strict=True))
    # The first, without rows, gives the literals the types of the columns.
    given = [f"SELECT 0 AS {number}, {named} FROM {source_rows(pipeline)} WHERE false"]
    given += [f"SELECT {index}, {key_literals(pipeline, key, source)}" for index, key in enumerate(keys)]
    pairs = [(f"t.{name}", f"k.{place}") for name, place in zip(compared_keys(pipeline, source), places, strict=True)]
    same = [f"{column} = {given}" for column, given in pairs]
    # citext, and a collation that is not deterministic, take texts for equal that the sink tells apart.
    same += [
        f'{column}::text COLLATE "C" = {given}::text COLLATE "C"'
        for (column, given), name in zip(pairs, pipeline.key, strict=True)
        if pipeline.types[name].is_text
    ]
    return (
        f"SELECT DISTINCT k.{number} FROM ({' UNION ALL '.join(given)}) AS k"
        f" JOIN {source_rows(pipeline, 't')} ON {' AND '.join(same)} WHERE {pushdown_condition(pipeline, source)}"
    )
