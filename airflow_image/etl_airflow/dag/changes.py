"""Columns that source and sink have and the pipeline has not, and the other way round, as plan finds them."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from airflow.providers.microsoft.mssql.hooks.mssql import MsSqlHook
from airflow.sdk.exceptions import AirflowFailException
from etl.errors import printable
from etl.model.new_columns import declare
from etl.model.pipeline import Pipeline
from etl.postgres.checks import Source
from etl.sqlserver import backfill, described, ledger
from etl.sqlserver import sql as sink_sql

log = logging.getLogger(__name__)


def read_added(pipeline: Pipeline, hook: MsSqlHook) -> list[tuple[str, bool]]:
    """The columns that were added to the sink table, and whether a run is to fill them."""
    if hook.get_first(sink_sql.find_table(ledger.BACKFILL))[0] is None:
        return []
    return [(name, bool(is_open)) for name, is_open in hook.get_records(backfill.read_added(pipeline))]


def find_unfilled(pipeline: Pipeline, hook: MsSqlHook) -> list[str]:
    """The columns that the sink table lacks, which the first load adds, and those that no run has filled yet."""
    present = {name for (name,) in hook.get_records(sink_sql.find_columns(pipeline.sink))}
    recorded = [name for name, is_open in read_added(pipeline, hook) if is_open]
    lacking = backfill.lacking(pipeline, present)
    return [name for name in pipeline.columns if name in lacking or name in recorded]


def params_to_fill(pipeline: Pipeline, params: dict[str, Any], unfilled: list[str]) -> dict[str, Any]:
    """The Params of a run that fills columns: it reads the whole table, as a full refresh does.

    Its own Params if they choose a part of the table. Raises AirflowFailException in mode append.
    """
    if not unfilled:
        return params
    names = ", ".join(map(printable, unfilled))
    if pipeline.mode == "append":
        raise AirflowFailException(
            f"{pipeline.name}: {names} of {pipeline.sink} have no values yet, and mode append changes no row that is"
            ' there: let a run with mode="incremental" fill them first.'
        )
    if any(params.get(name) not in (None, "") for name in ("since", "until")):
        log.warning("%s: a run without since and until is to fill %s of %s.", pipeline.name, names, pipeline.sink)
        return params
    log.info("%s: this run reads the whole table, to fill %s of %s.", pipeline.name, names, pipeline.sink)
    return {**params, "full_refresh": True}


def is_filling(params: Mapping[str, Any], unfilled: list[str]) -> bool:
    """Whether a run with these Params reads the whole table, and so fills every column."""
    return bool(unfilled and params.get("full_refresh")) and params.get("until") in (None, "")


def columns_to_add(pipeline: Pipeline, source: Source, hook: MsSqlHook) -> dict[str, str]:
    """The columns that this run moves though the pipeline does not list them, with their types, in the source's order.

    Logs them, or those that are only to be named. Raises ConfigurationError for one that cannot be carried.
    """
    if pipeline.on_new_source_column == "warn":
        listed = (f"{printable(name)} {each.name}" for name, each in source.others.items() if name not in pipeline.omit)
        _warn(pipeline, "has columns that the pipeline does not list", listed)
    if pipeline.on_new_source_column != "add":
        return {}
    _warn(pipeline, "has columns that the user may not read, so they are not added", source.hidden - {*pipeline.omit})
    filled = {name for name, is_open in read_added(pipeline, hook) if not is_open}
    gone = filled - pipeline.columns.keys() - source.others.keys()
    _warn(pipeline, f"has columns no more whose values {pipeline.sink} keeps", gone)
    in_sink = described.types(hook.get_records(described.find_columns(pipeline.sink)))
    added = declare(str(pipeline.source), source.unlisted(pipeline.omit), in_sink)
    if added:
        listed = (f'"{printable(name)}": "{declared}"' for name, declared in added.items())
        log.info("%s: this run moves columns that the pipeline does not list: %s.", pipeline.name, ", ".join(listed))
    return added


def _warn(pipeline: Pipeline, has: str, names: Iterable[str]) -> None:
    if named := ", ".join(names):
        log.warning("%s: %s %s: %s.", pipeline.name, pipeline.source, has, named)
