"""Whether the source has gone back: restored from a backup, it has rows at earlier versions than were read from it.

A version only grows. New keys may be given out anew there, and would then overwrite rows that are known by them.
"""

import logging
from datetime import datetime
from typing import Any, NamedTuple

from airflow.providers.microsoft.mssql.hooks.mssql import MsSqlHook
from airflow.sdk.exceptions import AirflowFailException
from etl import sink_sql, source_sql
from etl.errors import shown
from etl.pipeline import Pipeline

LOOKED_AT = 100
"""How many of the sink's newest rows are looked for at the source."""
log = logging.getLogger(__name__)


class Row(NamedTuple):
    """A row of the sink: its key as text, and its version."""

    key: list[str]
    version: datetime


def newest_rows(pipeline: Pipeline, hook: MsSqlHook) -> list[Row]:
    """The newest rows in the sink; none where there is no table yet."""
    table = sink_sql.quote_text(sink_sql.quote_table(pipeline.sink))
    if hook.get_first(f"SELECT OBJECT_ID({table}, N'U')")[0] is None:
        return []
    rows = hook.get_records(sink_sql.newest_rows(pipeline, LOOKED_AT))
    return [Row([str(value) for value in key], datetime.fromisoformat(f"{version}+00:00")) for *key, version in rows]


def check(pipeline: Pipeline, newest: list[Row], cursor: Any) -> None:
    """Compare the sink's newest rows with what the source has of them now.

    Raises AirflowFailException where one is older there. Where all are gone it is only said: they may be deleted.
    """
    if not newest:
        return
    cursor.execute(source_sql.versions_of(pipeline, [(row.key, row.version) for row in newest]))
    found = cursor.fetchall()
    older = [(newest[place], version) for place, version, is_older in found if is_older]
    if older:
        row, version = older[0]
        key = ", ".join(f"{name}={shown(value)}" for name, value in zip(pipeline.key, row.key, strict=True))
        raise AirflowFailException(
            f"{pipeline.name}: the source has gone back. {key} stands there at {version} and in {pipeline.sink} at"
            f" {row.version}; so do {len(older)} of the newest {len(newest)} rows. Was it restored from a backup? Then"
            " see docs/operations.md; where a standby answers that lags behind, run again."
        )
    if not found:
        log.warning(
            "None of the newest %d rows of %s is at the source any more: deleted there, or lost by a restored backup.",
            len(newest),
            pipeline.sink,
        )
