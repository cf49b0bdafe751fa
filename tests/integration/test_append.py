"""Tables to which rows are only added, and those whose version is part of the key."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from etl.errors import DataError

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.postgres import Postgres
from tests.harness.runs import Runs

DEFINITION: dict[str, Any] = {
    "name": "t", "source": "public.t", "columns": {"k": "integer", "v": "text null", "at": "timestamptz"},
    "key": ["k"], "version": "at", "filter": "true", "mode": "append",
}  # fmt: skip
Made = Callable[..., AbstractContextManager[PipelineFixture]]


@pytest.fixture
def made(postgres: Postgres, sink_url: str, tmp_path: Path) -> Iterator[Made]:
    """The fixture of the definition above, to be changed."""
    name = f"append_{uuid.uuid4().hex[:8]}"
    url = postgres.create_database(name)
    yield partial(pipeline_fixture, DEFINITION, url, sink_url, tmp_path)
    postgres.drop_database(name)


def fill(table: PipelineFixture, key: str = "k") -> None:
    table.change(f"CREATE TABLE t (k integer NOT NULL, v text, at timestamptz NOT NULL, PRIMARY KEY ({key}))")
    table.change("INSERT INTO t SELECT n, 'a', now() FROM generate_series(1, 10) AS n")


@pytest.mark.parametrize("change", ["v = 'b', at = now()", "v = NULL", "v = 'a '", "at = at - interval '1s'"])
def test_rows_are_added_and_one_that_changed_is_refused_by_name(
    made: Made, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with made() as table:
        fill(table)
        runs = Runs(table, monkeypatch)
        assert runs.run("first")["inserted"] == 10
        table.change("INSERT INTO t VALUES (11, 'a', now())")
        totals = runs.run("second")
        assert (totals["inserted"], totals["updated"], totals["unchanged"]) == (1, 0, 10)
        assert runs.run("again", full_refresh=True)["unchanged"] == 11
        before, watermark = table.sink_rows(), runs.watermark()
        table.change(f"UPDATE t SET {change} WHERE k = 5")
        table.change("INSERT INTO t VALUES (12, 'a', now())")
        with pytest.raises(DataError, match=r"1 rows of dbo\.t_\w+ have other values .* the first is k=5, but mode"):
            runs.run("third", full_refresh=True)
        assert (table.sink_rows(), runs.watermark()) == (before, watermark)
        table.execute(f"DELETE FROM [dbo].[{table.pipeline.sink.table}] WHERE [k] = 5")
        assert runs.run("fourth", full_refresh=True)["inserted"] == 2
        assert table.sink_rows() == table.source_rows()


@pytest.mark.parametrize("mode", ["incremental", "append"])
def test_a_version_may_be_part_of_the_key(made: Made, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with made(mode=mode, key=["k", "at"], partition_size=4) as table:
        fill(table, "k, at")
        runs = Runs(table, monkeypatch)
        assert runs.run("first")["inserted"] == 10
        table.change("INSERT INTO t SELECT n, 'b', clock_timestamp() FROM generate_series(8, 12) AS n")
        assert runs.run("second")["inserted"] == 5
        assert table.sink_rows() == table.source_rows()
        table.change("UPDATE t SET v = 'c' WHERE k = 1")
        if mode == "append":
            with pytest.raises(DataError, match="the first is k=1, at=20"):
                runs.run("third", full_refresh=True)
        else:
            assert runs.run("third", full_refresh=True)["updated"] == 1
            assert table.sink_rows() == table.source_rows()
