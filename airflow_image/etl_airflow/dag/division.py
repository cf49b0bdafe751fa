"""The division of a window's rows into partitions, by the keys that the source has."""

from typing import Any

from airflow.sdk.configuration import conf
from etl.model.pipeline import Pipeline
from etl.model.planning import cut, rows_of_a_partition, share
from etl.model.window import Partition, Window
from etl.postgres import sql as source_sql
from etl.postgres.checks import Source


def divide(pipeline: Pipeline, window: Window, rows: int, found: Source, cursor: Any) -> list[Partition]:
    """Partitions of a window with so many rows: ranges of the key, or shares by its hash where it has no order."""
    size = rows_of_a_partition(rows, pipeline.partition_size, conf.getint("core", "default_pool_task_slot_count"))
    if pipeline.has_sensitive_key or not found.is_ordered(pipeline.key):
        return share(window, rows, size)
    bounds: list[list[str]] = []
    if rows > size:
        cursor.execute(source_sql.partition_bounds(pipeline, window, size))
        bounds = [list(keys) for keys in cursor.fetchall()]
    return cut(window, rows, size, bounds)
