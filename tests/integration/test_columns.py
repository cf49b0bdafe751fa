"""Columns that have other names in the sink than at the source, and the time of the load."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from etl.config.settings import Settings
from etl.errors import ConfigurationError, DataError
from etl.model.column import Column
from etl.model.pipeline import Pipeline
from etl.model.window import Partition
from etl.new.preview import preview
from etl.postgres import sql as source_sql
from etl.postgres.relation import source_rows
from etl.sqlserver import sql as sink_sql
from etl.steps.erase import erase

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.pipelines import make, whole
from dev.sandbox.postgres import Postgres
from tests.harness.runs import Runs

DEFINITION: dict[str, Any] = {
    "name": "t", "source": "public.t", "key": ["a"], "version": "changed", "filter": "c <> 'x' OR c IS NULL",
    "columns": {
        "a": Column("integer", source="b"), "b": Column("integer", source="a"),
        "c": Column("varchar(9) null", source="d"), "d": Column("varchar(9) null", source="c"),
        "changed": Column("timestamptz", source="created"), "created": Column("timestamptz", source="changed"),
    },
    "partition_size": 10, "look_back": 0, "deletes": "delete",
}  # fmt: skip
"""Pairs of columns of one type exchange their names, so that a name of the wrong side reads a wrong value."""
WANTED = "SELECT b, a, d, c, created, changed FROM t WHERE d IS DISTINCT FROM 'x'"
REPLACE = {"mode": "replace", "version": None}


@pytest.fixture
def table(postgres: Postgres, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    """The fixture of a table of 40 rows, whose version is `created`."""
    name = f"columns_{uuid.uuid4().hex[:8]}"
    with pipeline_fixture(DEFINITION, postgres.create_database(name), sink_url, tmp_path) as made:
        made.change(
            "CREATE TABLE t (a integer NOT NULL, b integer PRIMARY KEY, c varchar(9), d varchar(9),"
            " changed timestamptz NOT NULL, created timestamptz NOT NULL)"
        )
        made.change(
            "INSERT INTO t SELECT n % 3, n, CASE n % 4 WHEN 0 THEN 'x' ELSE 'c' END, CASE n % 5 WHEN 0 THEN 'x' END,"
            " '2020-01-01', now() FROM generate_series(1, 40) AS n"
        )
        yield made
    postgres.drop_database(name)


def changed(made: PipelineFixture, **changes: Any) -> PipelineFixture:
    return replace(made, pipeline=Pipeline.model_validate({**made.pipeline.model_dump(), **changes}))


def wanted(made: PipelineFixture, query: str = WANTED) -> list[tuple[Any, ...]]:
    """The rows of a query to the source, in the order of their first column; times in UTC without a zone."""
    with psycopg.connect(made.source_url, options="-c timezone=UTC") as connection:
        rows = connection.execute(query.encode()).fetchall()
    return sorted(
        tuple(value.replace(tzinfo=None) if isinstance(value, datetime) else value for value in row) for row in rows
    )


def found(made: PipelineFixture) -> list[tuple[Any, ...]]:
    return sorted(made.sink_rows().values())


@pytest.mark.parametrize("pushdown", [False, True], ids=["filtered", "pushdown"])
@pytest.mark.parametrize("mode", [{}, REPLACE], ids=["incremental", "replace"])
def test_columns_exchange_their_names_in_every_part_of_a_run(
    table: PipelineFixture, mode: dict[str, Any], pushdown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(changed(table, pushdown=pushdown, **mode), monkeypatch)
    made = runs.made
    assert len(runs.plan()) == (1 if mode else 4)
    runs.run("first")
    assert found(made) == wanted(made)
    if mode:
        assert runs.plan() == []
    made.change("UPDATE t SET a = 7, d = 'new', created = clock_timestamp() WHERE b % 6 = 0")
    made.change("UPDATE t SET d = 'x', created = clock_timestamp() WHERE b = 1")
    made.change("DELETE FROM t WHERE b IN (2, 3)")
    made.change("INSERT INTO t VALUES (1, 99, 'x', 'late', now(), '2019-01-01')")
    runs.run("second")
    assert found(made) == wanted(made)


def test_a_renamed_key_and_version_are_read_by_their_indexes(table: PipelineFixture) -> None:
    """Postgres merges the query that gives the names with the one around it."""
    query = source_sql.extract_rows(table.pipeline, Partition(window=whole().window, lower=["5"], upper=["9"]), {})
    with psycopg.connect(table.source_url, options="-c enable_seqscan=off") as connection:
        plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN {query}".encode()).fetchall())
    assert "Index Cond: ((b > 5) AND (b <= 9))" in plan
    assert plan.count("Subquery Scan") == 1  # that of OFFSET 0, as without


def test_a_row_of_a_renamed_column_is_named_and_masked_by_its_name_in_the_sink(table: PipelineFixture) -> None:
    narrow = {**table.pipeline.columns, "c": Column("varchar(2) null", source="d")}
    made = changed(table, columns=narrow, sensitive=["a", "c"])
    made.change("UPDATE t SET d = 'secret' WHERE b = 7")
    with pytest.raises(DataError, match=r"The first is a=masked: c is longer than nvarchar\(2\)"):
        made.run()


def test_a_row_is_not_erased_while_the_source_has_it_under_the_other_name(
    table: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(table, monkeypatch)
    runs.run("first")
    with pytest.raises(ConfigurationError, match="still has this row"):
        erase(table.settings, table.pipeline, "7", dry_run=False, ask_source=True)
    table.change("DELETE FROM t WHERE b = 7")
    assert erase(table.settings, table.pipeline, "7", dry_run=False, ask_source=True).rows == 1


def test_a_preview_names_the_column_of_the_source(table: PipelineFixture, capsys: pytest.CaptureFixture[str]) -> None:
    settings: Settings = table.settings
    preview(settings, table.pipeline)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["a", "integer", "(b)", "integer", "int"] in lines


def test_a_column_that_was_renamed_at_the_source_goes_on_under_its_name(
    table: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As plan advises; the sink keeps its table, and no run reads it whole."""
    Runs(table, monkeypatch).run("first")
    table.change("ALTER TABLE t RENAME d TO e")
    table.change("UPDATE t SET e = 'new', created = clock_timestamp() WHERE b = 8")
    made = changed(table, columns={**table.pipeline.columns, "c": Column("varchar(9) null", source="e")})
    assert Runs(made, monkeypatch).run("second")["updated"] == 1
    query = "SELECT b, a, e, c, created, changed FROM t WHERE e IS DISTINCT FROM 'x'"
    assert found(made) == wanted(made, query)


def test_definitions_without_renamed_columns_ask_the_table_itself() -> None:
    plain = make(DEFINITION, columns={name: column.type for name, column in DEFINITION["columns"].items()})
    assert source_rows(plain) == '"public"."t"'


STAMPED = {"loaded_at": "at", "deletes": "mark"}


def stamps(made: PipelineFixture) -> dict[int, datetime]:
    """The time at which a load wrote each row, by key."""
    return dict(made.query(f"SELECT [a], [at] FROM {sink_sql.quote_table(made.pipeline.sink)}"))  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", [{}, REPLACE], ids=["incremental", "replace"])
def test_the_time_of_the_load_is_that_of_the_last_which_wrote_the_row(
    table: PipelineFixture, mode: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inserted, updated, marked, and unmarked rows are written; rows that are only read again are not."""
    runs = Runs(changed(table, **STAMPED, **mode), monkeypatch)
    made = runs.made
    runs.run("first")
    first = stamps(made)
    assert len(first) == 32
    now = datetime.now(UTC).replace(tzinfo=None)
    assert all(abs(now - at) < timedelta(minutes=10) for at in first.values())
    made.change("UPDATE t SET d = 'new', created = clock_timestamp() WHERE b = 1")
    made.change("DELETE FROM t WHERE b = 2")
    made.change("INSERT INTO t VALUES (1, 99, NULL, 'late', now(), clock_timestamp())")
    runs.run("second", full_refresh=True)
    second = stamps(made)
    assert {key for key, at in second.items() if at != first.get(key)} == {1, 2, 99}
    made.change("INSERT INTO t VALUES (1, 2, NULL, 'back', now(), '2019-01-01')")
    runs.run("third", full_refresh=True)
    assert {key for key, at in stamps(made).items() if at != second[key]} == {2}


def test_a_table_that_is_there_gets_the_column_without_being_read_again(
    table: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    Runs(table, monkeypatch).run("first")
    table.change("UPDATE t SET d = 'new', created = clock_timestamp() WHERE b = 1")
    made = changed(table, loaded_at="at")
    totals = Runs(made, monkeypatch).run("second")
    assert (totals["updated"], totals["unchanged"]) == (1, 0)
    assert [key for key, at in stamps(made).items() if at] == [1]
