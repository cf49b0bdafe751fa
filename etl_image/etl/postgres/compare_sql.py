"""SQL for Postgres by which rows of source and sink are compared without being sent."""

from etl.model.pipeline import Pipeline
from etl.postgres.quoting import quote_name
from etl.postgres.sql import quote_table


def content_hash(pipeline: Pipeline) -> str:
    """One row: how many rows the source has, the sum of their hashes as text, and the time.

    A sum does not depend on the order of the rows. The text form of a row is unambiguous, also for NULL.
    """
    columns = ", ".join(quote_name(name) for name in pipeline.columns)
    return (
        f"SELECT count(*), coalesce(sum(hashtextextended(ROW({columns})::text, 0)), 0)::text, now()"
        f" FROM {quote_table(pipeline.source)}"
    )
