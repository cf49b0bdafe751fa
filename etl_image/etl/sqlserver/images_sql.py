"""T-SQL for a staging table of images: of several of one key the last one counts."""

from etl.model.capture import IMAGE
from etl.model.pipeline import Pipeline
from etl.model.table_name import TableName
from etl.sqlserver.sql import quote_name, quote_names, quote_table


def delete_superseded(pipeline: Pipeline, staging: TableName) -> str:
    """Delete the images of staging that a later one of the same key follows."""
    image, keys = quote_name(IMAGE), quote_names(pipeline.key)
    same = " AND ".join(f"l.{quote_name(name)} = t.{quote_name(name)}" for name in pipeline.key)
    # By one aggregate, and not by pairs: a key may have a million images.
    last = f"SELECT {keys}, MAX({image}) AS [last] FROM {quote_table(staging)} GROUP BY {keys}"
    newer = f"SELECT 1 FROM ({last}) AS l WHERE {same} AND t.{image} < l.[last]"
    return f"DELETE t FROM {quote_table(staging)} AS t WHERE EXISTS ({newer})"
