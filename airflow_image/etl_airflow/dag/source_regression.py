"""Detects a source that was restored from a backup: its rows are at earlier versions than those in the sink.

A version only grows. A restored source may assign keys again, whose rows would then overwrite others in the sink. In a
restored source all of the newest rows, from the newest on, are older or gone. If only a clock was put back, or a person
changed versions, rows that are newer than those are unchanged.
"""

import logging
from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any, NamedTuple

from airflow.providers.microsoft.mssql.hooks.mssql import MsSqlHook
from airflow.sdk.exceptions import AirflowFailException
from etl.model.masking import Mask
from etl.model.pipeline import Pipeline
from etl.model.source_type import SourceTypes
from etl.postgres import sql as source_sql
from etl.sqlserver import own_rows
from etl.sqlserver import sql as sink_sql

LOOKED_AT = 100
"""How many of the sink's newest rows are compared with the source."""
FEW = 5
"""How many of these may be older or gone without a restore."""
_NAMED = 10
log = logging.getLogger(__name__)


class Row(NamedTuple):
    """A row of the sink: its key as text, and its version, a time without a zone."""

    key: list[str]
    version: datetime | int


def newest_rows(pipeline: Pipeline, hook: MsSqlHook) -> list[Row]:
    """The newest rows in the sink; none if there is no table yet."""
    present = {name for (name,) in hook.get_records(sink_sql.find_columns(pipeline.sink))}
    if not present:
        return []
    has_mark = present.issuperset(sink_sql.mark_names(pipeline))
    rows = hook.get_records(own_rows.newest_rows(pipeline, LOOKED_AT, has_mark=has_mark))
    read = int if pipeline.version_kind == "number" else datetime.fromisoformat
    return [Row([str(value) for value in key], read(version)) for *key, version in rows]


def check(
    pipeline: Pipeline, newest: list[Row], cursor: Any, mask: Mask, source: SourceTypes, *, is_accepted: bool
) -> None:
    """Compare the sink's newest rows with the source.

    Raises AirflowFailException if many are older there or gone, unless that `is_accepted`. If a few are older, or all
    are gone, only warns: their versions may have been changed, or they may have been deleted.
    """
    if not newest:
        return
    cursor.execute(source_sql.versions_of(pipeline, [(row.key, row.version) for row in newest], source))
    found = {index: (version, difference) for index, version, difference in cursor.fetchall()}
    older = [(newest[index], version) for index, (version, difference) in found.items() if difference < 0]
    if older:
        rows = [f"{mask.row(row.key)}: {version}, in the sink {row.version}" for row, version in older]
        text = (
            f"of the newest {len(newest)} rows of {pipeline.sink} {len(older)} are older at the source and"
            f" {len(newest) - len(found)} gone ({'; '.join([*rows[:_NAMED], *['…'][: len(rows) - _NAMED]])})."
        )
        if is_accepted:
            log.warning("%s: %s As accept_older_versions says, they are taken as they are.", pipeline.name, text)
        elif looks_restored([found.get(index, (None, None))[1] for index in range(len(newest))]):
            raise AirflowFailException(
                f"{pipeline.name}: the source has gone back: {text} Was it restored from a backup? Then see"
                " docs/operations.md. Where a standby answers that lags behind, run again. To take the source's rows as"
                " they are, run with full_refresh and accept_older_versions."
            )
        else:
            log.warning(
                "%s: versions have gone back: %s What has changed in these rows is not brought until their versions are"
                " later than the sink's: change them again, or run with full_refresh and accept_older_versions.",
                *(pipeline.name, text),
            )
    elif not found:
        log.warning(
            "None of the newest %d rows of %s is at the source any more: deleted there, or lost by a restored backup.",
            len(newest),
            pipeline.sink,
        )


def looks_restored(differences: Sequence[int | None]) -> bool:
    """Whether the source was restored, and not only the versions of single rows put back.

    `differences` compare the source's versions with the sink's, the newest of the sink first: negative older, 0 equal,
    positive newer, None gone.
    """
    # Newer rows have changed since, in a restored source or any other.
    lost = [each for each in takewhile(lambda each: each != 0, differences) if each is None or each < 0]
    is_any_older = any(each is not None for each in lost)
    return is_any_older and (len(lost) > FEW or 1 < len(lost) == len(differences))
