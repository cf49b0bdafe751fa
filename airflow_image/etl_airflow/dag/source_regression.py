"""Whether the source has gone back: restored from a backup, it has rows at earlier versions than were read from it.

A version only grows. New keys may be given out anew there, and would then overwrite rows that are known by them. A
restored source has none of the newest rows as it was read, from the newest on; where it was a clock that was put back,
or a person who wrote a version, rows that are newer than those are still there as they were.
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
from etl.postgres import sql as source_sql
from etl.sqlserver import sql as sink_sql

LOOKED_AT = 100
"""How many of the sink's newest rows are looked for at the source."""
FEW = 5
"""How many of these may be older or gone in a source that was not restored."""
_NAMED = 10
log = logging.getLogger(__name__)


class Row(NamedTuple):
    """A row of the sink: its key as text, and its version as the sink has it, without a zone."""

    key: list[str]
    version: datetime


def newest_rows(pipeline: Pipeline, hook: MsSqlHook) -> list[Row]:
    """The newest rows in the sink; none where there is no table yet."""
    if hook.get_first(sink_sql.find_table(pipeline.sink))[0] is None:
        return []
    rows = hook.get_records(sink_sql.newest_rows(pipeline, LOOKED_AT))
    return [Row([str(value) for value in key], datetime.fromisoformat(version)) for *key, version in rows]


def check(pipeline: Pipeline, newest: list[Row], cursor: Any, mask: Mask, *, is_accepted: bool) -> None:
    """Compare the sink's newest rows with what the source has of them now.

    Raises AirflowFailException where many are older there or gone, unless that `is_accepted`. Where a few are older,
    or all are gone, it is only logged: these may have been written so, or deleted.
    """
    if not newest:
        return
    cursor.execute(source_sql.versions_of(pipeline, [(row.key, row.version) for row in newest]))
    found = {place: (version, difference) for place, version, difference in cursor.fetchall()}
    older = [(newest[place], version) for place, (version, difference) in found.items() if difference < 0]
    if older:
        rows = [f"{mask.row(row.key)}: {version}, in the sink {row.version}" for row, version in older]
        told = (
            f"of the newest {len(newest)} rows of {pipeline.sink} {len(older)} are older at the source and"
            f" {len(newest) - len(found)} gone ({'; '.join([*rows[:_NAMED], *['…'][: len(rows) - _NAMED]])})."
        )
        if is_accepted:
            log.warning("%s: %s As accept_older_versions says, they are taken as they are.", pipeline.name, told)
        elif looks_restored([found.get(place, (None, None))[1] for place in range(len(newest))]):
            raise AirflowFailException(
                f"{pipeline.name}: the source has gone back: {told} Was it restored from a backup? Then see"
                " docs/operations.md. Where a standby answers that lags behind, run again. To take the source's rows as"
                " they are, run with full_refresh and accept_older_versions."
            )
        else:
            log.warning(
                "%s: versions have gone back: %s What has changed in these rows is not brought until their versions are"
                " later than the sink's: change them again, or run with full_refresh and accept_older_versions.",
                *(pipeline.name, told),
            )
    elif not found:
        log.warning(
            "None of the newest %d rows of %s is at the source any more: deleted there, or lost by a restored backup.",
            len(newest),
            pipeline.sink,
        )


def looks_restored(differences: Sequence[int | None]) -> bool:
    """Whether the source was restored, rather than that the versions of single rows were put back.

    `differences` are those of the source's versions from the sink's, the newest of the sink first: below 0 older,
    0 equal, above 0 newer, None gone.
    """
    # Newer ones have changed since, in a source that was restored or not.
    lost = [each for each in takewhile(lambda each: each != 0, differences) if each is None or each < 0]
    is_any_older = any(each is not None for each in lost)
    return is_any_older and (len(lost) > FEW or 1 < len(lost) == len(differences))
