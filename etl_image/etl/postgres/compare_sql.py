"""SQL for Postgres by which rows of source and sink are compared without being sent."""

from collections.abc import Sequence

from etl.model.pipeline import Pipeline
from etl.postgres.filter import pushdown_condition
from etl.postgres.quoting import quote_name
from etl.postgres.sql import key_literals, quote_table


def content_hash(pipeline: Pipeline) -> str:
    """One row: how many rows the source has, the sum of their hashes as text, and the time.

    A sum does not depend on the order of the rows. The text form of a row is unambiguous, also for NULL.
    """
    columns = ", ".join(quote_name(name) for name in pipeline.columns)
    return (
        f"SELECT count(*), coalesce(sum(hashtextextended(ROW({columns})::text, 0)), 0)::text, now()"
        f" FROM {quote_table(pipeline.source)}"
    )


def has_keys(pipeline: Pipeline, keys: Sequence[Sequence[str]]) -> str:
    """The index of each key, as text, that the source has in a row which the filter keeps, or which may be rejected."""
    # A tab is not printable, so no column of a pipeline has such a name.
    places = [quote_name(f"\tk{place}") for place in range(len(pipeline.key))]
    given = ", ".join(f"({number}, {key_literals(pipeline, key)})" for number, key in enumerate(keys))
    same = " AND ".join(f"t.{quote_name(name)} = k.{place}" for name, place in zip(pipeline.key, places, strict=True))
    number = quote_name("\tnumber")
    return (
        f"SELECT DISTINCT k.{number} FROM (VALUES {given}) AS k ({number}, {', '.join(places)})"
        f" JOIN {quote_table(pipeline.source)} AS t ON {same} WHERE {pushdown_condition(pipeline)}"
    )
