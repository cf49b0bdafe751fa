"""Finds the rows in which the sides differ: sums of all rows by bucket, then the rows of the buckets that differ."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from math import ceil

import structlog

from etl.errors import DataError
from etl.verify.sides import Sides, Stream
from etl.verify.tables import Tables
from etl.verify.values import key_bucket

_AT_ONCE = 1_000_000
"""Rows of buckets that differ which are kept at a time, of both sides together."""
SUSPECTS = "suspects"
"""The table of rows that differ at first sight: the key, and h of each side, null where a side lacks the row."""


@dataclass(frozen=True)
class Found:
    """The rows that are equal on both sides, and how many are suspects; `rejected`: the sink cannot hold them."""

    equal: int
    suspects: int
    rejected: int


def find_suspects(sides: Sides, tables: Tables) -> Found:
    """Compare all rows. Raises DataError if the counts do not add up: then the sink has a key twice."""
    rejected = _sum_up(sides, tables)
    tables.rows(
        "CREATE OR REPLACE TABLE differing AS SELECT coalesce(s.bucket, t.bucket) AS bucket,"
        " coalesce(s.n, 0) + coalesce(t.n, 0) AS n FROM source_sums AS s FULL JOIN sink_sums AS t"
        " ON s.bucket = t.bucket WHERE s.n IS DISTINCT FROM t.n OR s.total IS DISTINCT FROM t.total"
    )
    equal = int(
        tables.value("SELECT coalesce(sum(n), 0) FROM source_sums WHERE bucket NOT IN (SELECT bucket FROM differing)")
    )
    (buckets, rows), rounds = tables.rows("SELECT count(*), coalesce(sum(n), 0) FROM differing")[0], 0
    suspects = 0
    if buckets:
        rounds = ceil(int(rows) / _AT_ONCE)
        structlog.get_logger().info(
            "verify: reads the rows of buckets that differ", buckets=buckets, rows=int(rows), rounds=rounds
        )
    for number in range(rounds):
        more, fewer = _compare_rows(sides, tables, f"bucket % {rounds} = {number}", is_first=number == 0)
        equal, suspects = equal + more, suspects + fewer
    return Found(equal, suspects, rejected)


def _sum_up(sides: Sides, tables: Tables) -> int:
    """Pass one, of both sides at the same time; returns how many rows of the source are rejected."""
    with sides.sink() as sink, sides.source() as source:
        tables.widen(sink)
        tables.create_rows(SUSPECTS, source)  # so that there are tables where nothing differs
        _both(lambda: tables.sum_up("source", source), lambda: tables.sum_up("sink", sink))
        return _check_read(sides, tables, source, sink)


def _check_read(sides: Sides, tables: Tables, source: Stream, sink: Stream) -> int:
    """Check the sums against what was read; returns how many rows of the source were rejected."""
    counts = {side: int(tables.value(f"SELECT coalesce(sum(n), 0) FROM {side}_sums")) for side in ("source", "sink")}
    manifest = source.manifest
    if manifest is None or manifest.kept != counts["source"] or sink.rows != counts["sink"]:
        raise DataError(
            f"{sides.pipeline.name}: {source.rows} rows of the source and {sink.rows} of the sink were read, but"
            f" {counts['source']} and {counts['sink']} summed up. This is a fault in etl, please report it."
        )
    return manifest.rejected


def _compare_rows(sides: Sides, tables: Tables, chosen: str, *, is_first: bool) -> tuple[int, int]:
    """Pass two, of some of the buckets; returns how many rows are equal, and how many are suspects."""
    condition = f"{key_bucket(tables.keys)} IN (SELECT bucket FROM differing WHERE {chosen})"
    with sides.sink() as sink, sides.source() as source:
        tables.create_rows("source_rows", source)
        tables.create_rows("sink_rows", sink)
        _both(
            lambda: tables.keep(source, "source_rows", condition),
            lambda: tables.keep(sink, "sink_rows", condition),
        )
    join, keys = same_key(tables, "s", "t"), ", ".join(f"coalesce(s.{key}, t.{key}) AS {key}" for key in tables.keys)
    joined = f"FROM source_rows AS s FULL JOIN sink_rows AS t ON {join}"
    tables.rows(
        f"CREATE OR REPLACE TABLE more AS SELECT {keys}, s.h AS source_h, t.h AS sink_h, s.n AS source_n,"
        f" t.n AS sink_n {joined} WHERE s.h IS DISTINCT FROM t.h OR s.n IS DISTINCT FROM t.n"
    )
    created = f"CREATE OR REPLACE TABLE {SUSPECTS} AS FROM more" if is_first else f"INSERT INTO {SUSPECTS} FROM more"
    tables.rows(created)
    equal = int(tables.value(f"SELECT coalesce(sum(s.n), 0) {joined} WHERE s.h = t.h AND s.n = t.n"))
    suspects = tables.rows("SELECT count(*), coalesce(sum(source_n), 0), coalesce(sum(sink_n), 0) FROM more")[0]
    for name, of_suspects in zip(("source", "sink"), suspects[1:], strict=True):
        rows = int(tables.value(f"SELECT coalesce(sum(n), 0) FROM {name}_rows"))
        if rows != equal + int(of_suspects):
            raise DataError(
                f"{sides.pipeline.name}: of {rows} rows of the {name} {equal} are equal and {of_suspects} not, which"
                f" does not add up: its key ({', '.join(sides.pipeline.key)}) is there more than once. Find it by"
                f" GROUP BY and HAVING COUNT(*) > 1 in {sides.pipeline.sink} and {sides.pipeline.source}."
            )
    return equal, int(suspects[0])


def same_key(tables: Tables, one: str, other: str) -> str:
    """A condition: rows of two tables, by their aliases, have the same key."""
    return " AND ".join(f"{one}.{key} = {other}.{key}" for key in tables.keys)


def _both(*work: Callable[[], None]) -> None:
    """Run functions at the same time. Raises the error of the first that fails."""
    with ThreadPoolExecutor(len(work)) as threads:
        # Each in a context of its own, with the fields bound to log lines.
        running = [threads.submit(copy_context().run, each) for each in work]
        for each in running:
            each.result()
