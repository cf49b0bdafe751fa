"""Reads suspects again, first at the sink and then at the source, and says what each of them is."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from etl.model.column_types import ColumnType
from etl.model.pipeline import Pipeline
from etl.model.version_kind import Version
from etl.model.version_zone import as_local
from etl.verify.compare import SUSPECTS, same_key
from etl.verify.scope import Scope
from etl.verify.sides import Sides
from etl.verify.tables import Tables

CLASSED = "classed"
"""The table of suspects with their class, and how many rows that are."""
ONE_BY_ONE = 10_000
"""Suspects that are asked for by their keys; of more both sides are read as a whole once more."""
_ASKED_AT_ONCE = 200
_PARAMETERS = 1800
"""SQL Server takes 2100 parameters."""


def confirm(sides: Sides, tables: Tables, suspects: int) -> dict[str, int]:
    """The number of rows of each class, after the suspects were read again.

    Also of those that are `equal` by now, and of all that are there: `at_source`, `at_sink`.
    """
    if not suspects:
        return {}
    by_key = bool(sides.pipeline.key) and suspects <= ONE_BY_ONE
    # The sink first: a row that a load brings meanwhile is at the source before.
    for name in ("sink", "source", "there"):
        _read_again(sides, tables, name, by_key=by_key)
    classify = _classify_counted if not sides.pipeline.key else _classify
    tables.rows(f"CREATE OR REPLACE TABLE {CLASSED} AS {classify(sides.scope, tables)}")
    counts = {name: int(count) for name, count in tables.rows(f"SELECT class, sum(n) FROM {CLASSED} GROUP BY class")}
    join = same_key(tables, "p", "a")
    at_source, at_sink = (
        int(tables.value(f"SELECT coalesce(sum(a.n), 0) FROM {SUSPECTS} AS p JOIN again_{side} AS a ON {join}"))
        for side in ("source", "sink")
    )
    return {**counts, "at_source": at_source, "at_sink": at_sink}


def _read_again(sides: Sides, tables: Tables, name: str, *, by_key: bool) -> None:
    """Fill the table again_NAME: rows of a side, or the keys that are `there` at the source without the filter."""
    table, is_made = f"again_{name}", False
    if name == "there" and not sides.pipeline.key:
        return
    suspected = f"EXISTS (SELECT 1 FROM {SUSPECTS} AS p WHERE {same_key(tables, 'p', 'r')})"
    for keys in chunks(tables) if by_key else [None]:
        texts = None if keys is None else [[str(text) for text in key] for key in keys]
        if name == "sink":
            opened = sides.sink([] if keys is None else [parameters(sides.pipeline, key) for key in keys])
        else:
            opened = sides.source(texts, of_keys=name == "there")
        with opened as stream:
            if not is_made:
                tables.create_rows(table, stream)
                is_made = True
            tables.keep(stream, table, suspected)


def chunks(tables: Tables, table: str = SUSPECTS) -> Iterator[list[tuple[str, ...]]]:
    """The keys of suspects, as text, some at a time."""
    keys = tables.rows(f"SELECT {', '.join(f'{key}::VARCHAR' for key in tables.keys)} FROM {table}")
    size = max(1, min(_ASKED_AT_ONCE, _PARAMETERS // len(tables.keys)))
    return (keys[first : first + size] for first in range(0, len(keys), size))


def parameters(pipeline: Pipeline, key: tuple[str, ...]) -> list[Any]:
    """The parameters of `has_key` for a key as text."""
    return [_parameter(pipeline.types[name], text) for name, text in zip(pipeline.key, key, strict=True)]


def _parameter(kind: ColumnType, text: str) -> Any:
    if kind.is_integer:
        return int(text)
    if kind.row.family == "float":
        return float(text)
    return text == "true" if kind.name == "boolean" else text


def _classify(scope: Scope, tables: Tables) -> str:
    """A query of the suspects: key, class, and 1."""
    keys = ", ".join(f"p.{key}" for key in tables.keys)
    joins = " ".join(
        f"LEFT JOIN again_{name} AS {alias} ON {same_key(tables, 'p', alias)}"
        for name, alias in (("source", "s"), ("sink", "t"), ("there", "e"))
    )
    pending = _is_pending(scope)
    removed = "leaving" if scope.pipeline.deletes != "keep" else ""
    # Mode replace removes in each run what the source has not.
    is_fault = scope.pipeline.mode == "replace" and scope.pipeline.deletes != "keep" and scope.is_settled
    gone, unmatched = ("extra", "extra") if is_fault else (removed or "deleted", removed or "unmatched")
    return (
        f"SELECT {keys}, CASE WHEN s.h IS NULL AND t.h IS NULL THEN 'left'"
        f" WHEN s.h IS NULL AND e.n IS NULL THEN '{gone}' WHEN s.h IS NULL THEN '{unmatched}'"
        f" WHEN s.h = t.h THEN 'equal' WHEN t.h IS NULL AND {pending} THEN 'pending' WHEN t.h IS NULL THEN 'missing'"
        f" WHEN s.v > t.v AND {pending} THEN 'pending' WHEN s.v > t.v THEN 'older' WHEN s.v < t.v THEN 'newer'"
        f" WHEN s.v IS NULL AND {pending} THEN 'pending' ELSE 'different' END AS class, 1 AS n"
        f" FROM {SUSPECTS} AS p {joins}"
    )


def _classify_counted(scope: Scope, _: Tables) -> str:
    """The same without a key: of each row counts how often it is there more on one side than on the other."""
    missing, extra = ("missing", "extra") if scope.is_settled else ("pending", "leaving")
    more = "coalesce(s.n, 0) - coalesce(t.n, 0)"
    rows = f"FROM {SUSPECTS} AS p LEFT JOIN again_source AS s ON p.k0 = s.k0 LEFT JOIN again_sink AS t ON p.k0 = t.k0"
    return (
        f"SELECT p.k0, CASE WHEN {more} > 0 THEN '{missing}' ELSE '{extra}' END AS class, abs({more}) AS n {rows}"
        f" WHERE {more} <> 0 UNION ALL SELECT p.k0, 'equal', least(coalesce(s.n, 0), coalesce(t.n, 0)) {rows}"
    )


def _is_pending(scope: Scope) -> str:
    """A condition: the next run reads row s of the source in any case."""
    if scope.pipeline.version is None:
        return "false" if scope.is_settled else "true"
    if scope.low is None:
        return "true"
    return f"s.v > {_literal(scope.pipeline, scope.low)}"


def _literal(pipeline: Pipeline, version: Version) -> str:
    """A version as `comparable` makes it of the column."""
    if isinstance(version, datetime):
        if pipeline.version_kind == "day":
            return f"DATE '{version.date().isoformat()}'"
        return f"TIMESTAMP '{as_local(version, pipeline.version_zone).replace(tzinfo=None).isoformat(sep=' ')}'"
    return str(int(version))
