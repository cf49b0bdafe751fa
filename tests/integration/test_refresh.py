"""A run that is asked for by hand makes the sink as the source is, also where no version has changed since."""

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from etl.model.window import Partition
from etl.sqlserver import sql as sink_sql

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.pipelines import ORDERS, make, whole
from tests.harness.runs import Runs

COLUMNS = {"k": "integer", "v": "text null", "raw": "bytea null", "at": "timestamptz"}


@pytest.fixture
def made(source_url: str, sink_url: str, tmp_path: Path) -> Any:
    pipeline = {**ORDERS, "source": "public.t", "columns": COLUMNS, "key": ["k"], "version": "at", "filter": "k > 0"}
    with pipeline_fixture(pipeline, source_url, sink_url, tmp_path) as found:
        found.change(
            "CREATE TABLE t (k int PRIMARY KEY, v text, raw bytea, at timestamptz NOT NULL);"
            " INSERT INTO t SELECT n, 'a', '\\x01', '2026-01-01' FROM generate_series(1, 20) AS n"
        )
        yield found


@pytest.mark.parametrize("params", [{"full_refresh": True}, {"since": "2025-12-31T00:00:00Z"}])
def test_a_column_that_both_ends_have_got_is_filled(
    made: PipelineFixture, monkeypatch: pytest.MonkeyPatch, params: dict[str, Any]
) -> None:
    pipeline = make(made.pipeline.model_dump(), columns={**made.pipeline.columns, "channel": "varchar(9) null"})
    made.execute(sink_sql.create_table(sink_sql.sink_table(pipeline)))
    Runs(made, monkeypatch).run("before")
    made.change("ALTER TABLE t ADD channel varchar(9) DEFAULT 'web'; UPDATE t SET channel = NULL WHERE k = 1")
    wider = PipelineFixture(pipeline, made.settings, made.source_url, made.sink_url)
    runs = Runs(wider, monkeypatch)
    first = runs.run("first", **params)
    assert wider.sink_rows() == wider.source_rows()
    counts = ("inserted", "updated", "unchanged", "standing", "verdict")
    assert [first[name] for name in counts] == [0, 19, 1, 20, "adds up"]
    again = runs.run("again", **params)
    assert [again[name] for name in counts] == [0, 0, 20, 20, "adds up"]


@pytest.mark.parametrize(
    ("column", "values"),
    [("v", ["'a'", "'A'", "'a '", "'á'", "''", "NULL"]), ("raw", ["'\\x01'", "'\\x0100'", "'\\x'", "NULL"])],
)
def test_every_value_is_told_from_every_other(
    made: PipelineFixture, monkeypatch: pytest.MonkeyPatch, column: str, values: list[str]
) -> None:
    """Also those that a collation of SQL Server takes for one."""
    runs = Runs(made, monkeypatch)
    pairs = dict(enumerate(permutations(values, 2), start=100))
    made.change(
        f"INSERT INTO t (k, {column}, at) VALUES " + ", ".join(f"({k}, {a}, now())" for k, (a, _) in pairs.items())
    )
    runs.run("first")
    made.change("; ".join(f"UPDATE t SET {column} = {b} WHERE k = {k}" for k, (_, b) in pairs.items()))
    assert runs.run("second", full_refresh=True)["updated"] == len(pairs)
    assert made.sink_rows() == made.source_rows()


@pytest.mark.parametrize(
    ("refresh", "updated", "unchanged", "standing"),
    [("newer", 0, 20, 20), ("differing", 1, 19, 20), ("all", 2, 18, 20)],
)
def test_what_a_source_takes_back_is_taken_back_where_all_is_refreshed(
    made: PipelineFixture, refresh: str, updated: int, unchanged: int, standing: int
) -> None:
    """Restored from a backup: one row at an earlier version, another at the same and different."""
    made.run("first")
    before = made.sink_rows()
    made.change("UPDATE t SET v = 'old', at = at - interval '1 day' WHERE k = 1; UPDATE t SET v = 'other' WHERE k = 2")
    now = made.source_rows()
    right = {"newer": before, "differing": {**now, (1,): before[1,]}, "all": now}
    partition = Partition.model_validate({"window": {**whole().window.model_dump(), "refresh": refresh}})
    loaded = made.run("second", partition)["load"]
    assert made.sink_rows() == right[refresh]
    assert (loaded.inserted, loaded.updated, loaded.unchanged, loaded.standing) == (0, updated, unchanged, standing)
    again = made.run("third", partition)["load"]
    assert (again.updated, again.unchanged, again.standing) == (0, 20, standing)
