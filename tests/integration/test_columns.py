"""Columns that have other names in the sink than at the source, constants, expressions, and the time of the load."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException
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
from psycopg import sql
from pydantic import SecretStr, ValidationError

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
    columns = {"shard": Column("varchar(2)", constant="eu"), **table.pipeline.columns}
    made = changed(table, columns=columns, key=["shard", "a"])
    query = source_sql.extract_rows(
        made.pipeline, Partition(window=whole().window, lower=["eu", "5"], upper=["eu", "9"]), {}
    )
    with psycopg.connect(table.source_url, options="-c enable_seqscan=off") as connection:
        plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN {query}".encode()).fetchall())
    assert "Index Cond: ((b > 5) AND (b <= 9))" in plan


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
    login = urlsplit(table.sink_url)
    administrator = {"user": unquote(login.username or ""), "password": SecretStr(unquote(login.password or ""))}
    settings = table.settings.model_copy(update={f"sink_admin_{name}": each for name, each in administrator.items()})
    with pytest.raises(ConfigurationError, match="still has this row"):
        erase(settings, table.pipeline, "7", dry_run=False, ask_source=True)
    table.change("DELETE FROM t WHERE b = 7")
    assert erase(settings, table.pipeline, "7", dry_run=False, ask_source=True).rows == 1


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


CONSTANTS: dict[str, Any] = {
    "smallint": -32768, "integer": 2147483647, "bigint": -(2**63), "numeric(20,3)": "-12345678901234567.125",
    "boolean": True, "char(3)": "ab", "text": "it's \\ 'é' 🚚", "varchar(4)": "ab\\c",
    "uuid": "0a000000-0000-0000-0000-00000000000a", "date": "0001-01-01",
    "time": "23:59:59.999999", "timestamp": "9999-12-31 23:59:59.999999",
    "timestamptz": "2026-01-31 12:00:00",
}  # fmt: skip


@pytest.mark.parametrize("mode", [{}, REPLACE], ids=["incremental", "replace"])
def test_constants_of_every_type_arrive_in_every_row(
    table: PipelineFixture, mode: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {f"c{place}": Column(type_, constant=value) for place, (type_, value) in enumerate(CONSTANTS.items())}
    made = changed(table, columns={**table.pipeline.columns, **named}, **mode)
    runs = Runs(made, monkeypatch)
    runs.run("first")
    with psycopg.connect(made.source_url) as connection:
        values = [sql.Literal(str(value)) + sql.SQL("::" + type_) for type_, value in CONSTANTS.items()]
        query = sql.SQL("{}, {} FROM").format(sql.SQL(WANTED.partition(" FROM")[0]), sql.SQL(", ").join(values))
        text = query.as_string(connection) + WANTED.partition("FROM")[2]
    assert found(made) == wanted(made, text)


@pytest.mark.parametrize("pushdown", [False, True], ids=["filtered", "pushdown"])
def test_a_constant_may_be_of_the_key_and_of_the_filter(
    table: PipelineFixture, pushdown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = {"shard": Column("varchar(2)", constant="eu"), **table.pipeline.columns}
    kept = {"key": ["shard", "a"], "filter": f"({table.pipeline.filter}) AND shard = 'eu'"}
    runs = Runs(changed(table, columns=columns, pushdown=pushdown, **kept), monkeypatch)
    assert len(runs.plan()) == 4
    runs.run("first")
    runs.made.change("DELETE FROM t WHERE b < 4")
    runs.made.change("UPDATE t SET d = 'new', created = clock_timestamp() WHERE b = 5")
    assert runs.run("second")["deleted"] == 3
    assert found(runs.made) == [("eu", *row) for row in wanted(runs.made)]
    none = changed(runs.made, filter="shard = 'us'")
    none.run("none")
    assert [row["kept"] for row in none.audits() if row["run_id"] == "none"] == [0]


EXPRESSIONS = {
    "upper(lower(c))": "text null", "c || a::text": "text null", "coalesce(d, c, 'none')": "varchar(9)",
    "a * 2 - b + -3": "integer",
    "CASE WHEN a = 1 THEN 'one' WHEN d IS NULL OR a > 1 THEN c ELSE 'x' END": "text null",
    "CASE a WHEN 1 THEN 1.5 ELSE 2 END": "numeric(9,2)", "nullif(a, 1)": "integer null", "left(c, 1)": "text null",
    "substring(c, 2, 1)": "text null", "length(d)": "integer null", "concat(c, d, a)": "text",
    "replace(c, 'c', '🚚')": "text null", "trim('c' || c, 'c')": "text null", "abs(a - b)": "integer",
    "round(a * 1.25, 1)": "numeric(9,1)", "floor(b * 0.3)": "numeric(9,0)", "md5(c)": "varchar(32) null",
    "date_trunc('month', created)": "timestamptz", "EXTRACT(year FROM changed)": "numeric(6,0)",
    "created AT TIME ZONE 'Asia/Tokyo'": "timestamp", "CAST(changed AS date)": "date", "b::text": "varchar(9)",
    "encode(c::bytea, 'hex')": "text null", """('{"k": "v' || b || '"}')::jsonb ->> 'k'""": "text null",
    "c LIKE 'c%' AND b BETWEEN 2 AND 30": "boolean null", "a NOT IN (0, 1)": "boolean", "greatest(a, b, 7)": "integer",
}  # fmt: skip
SHADOWED = (
    "CREATE SCHEMA other",
    "CREATE FUNCTION other.lower(varchar) RETURNS text LANGUAGE sql AS $$SELECT 'of another schema'$$",
    "CREATE FUNCTION other.joined(varchar, text) RETURNS text LANGUAGE sql AS $$SELECT 'of another schema'$$",
    "CREATE OPERATOR other.|| (LEFTARG = varchar, RIGHTARG = text, FUNCTION = other.joined)",
    "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = other, pg_catalog, public', current_database());"
    " END$$",
)


@pytest.mark.parametrize("mode", [{}, REPLACE], ids=["incremental", "replace"])
def test_an_expression_has_the_value_that_postgres_computes(
    table: PipelineFixture, mode: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever functions and operators other schemas of the search_path have."""
    query = f"SELECT b, a, d, c, created, changed, {', '.join(EXPRESSIONS)} FROM t WHERE d IS DISTINCT FROM 'x'"
    named = {f"e{place}": Column(type_, expression=text) for place, (text, type_) in enumerate(EXPRESSIONS.items())}
    runs = Runs(changed(table, columns={**table.pipeline.columns, **named}, **mode), monkeypatch)
    expected = wanted(table, query)
    for statement in SHADOWED:
        table.change(statement)
    assert wanted(table, "SELECT lower(c) FROM t LIMIT 1") == [("of another schema",)]
    runs.run("first")
    assert found(runs.made) == expected


def test_an_expression_may_be_the_key_and_in_the_filter(
    table: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = {**table.pipeline.columns, "a": Column("varchar(9)", expression="'no ' || b")}
    changes = {"columns": columns, "filter": "a <> 'no 3'", "pushdown": True}
    runs = Runs(changed(table, **changes), monkeypatch)
    partitions = [Partition.model_validate_json(each) for each in runs.plan()]
    assert [each.share for each in partitions] == [(place, 4) for place in range(4)]
    runs.run("first")
    runs.made.change("DELETE FROM t WHERE b = 4")
    runs.made.change("UPDATE t SET d = 'new', created = clock_timestamp() WHERE b = 5")
    assert runs.run("second")["deleted"] == 1
    assert found(runs.made) == wanted(runs.made, "SELECT 'no ' || b, a, d, c, created, changed FROM t WHERE b <> 3")
    many = changed(table, columns={**columns, "a": Column("varchar(9)", expression="'no ' || a")}, filter="true")
    with pytest.raises(ConfigurationError, match=r"rows of public\.t have the key a=no \d: it does not identify a row"):
        many.run("many")


@pytest.mark.parametrize(
    ("column", "told"),
    [
        (Column("integer", expression="c || d"), r"column e of public\.t is text, the pipeline says integer"),
        (Column("text", expression="c || nope"), r"public\.t has no column nope, which the expression of e reads"),
        (Column("text", expression="left(c, d)"), "left"),
    ],
    ids=["type", "column", "arguments"],
)
def test_an_expression_that_the_source_does_not_compute_so_stops_the_plan(
    table: PipelineFixture, column: Column, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(changed(table, columns={**table.pipeline.columns, "e": column}), monkeypatch)
    with pytest.raises(AirflowFailException, match=told):
        runs.plan()


def test_what_is_computed_from_a_sensitive_column_is_sensitive(table: PipelineFixture) -> None:
    columns = {**table.pipeline.columns, "e": Column("text", expression="lower(d)")}
    with pytest.raises(ValidationError, match="sensitive: 'e' has values of d, too; name it here"):
        changed(table, columns=columns, sensitive=["c"])
    changed(table, columns=columns, sensitive=["c", "e"])


@pytest.fixture
def shards(table: PipelineFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[Runs]]]:
    """Two pipelines with one sink table, whose keys are the same numbers; made with settings of both."""
    table.change("CREATE TABLE u (LIKE t INCLUDING ALL)")
    table.change("INSERT INTO u SELECT a, b, c, CASE WHEN b > 10 THEN 'x' END, changed, created FROM t")
    made: list[Runs] = []

    def both(**changes: Any) -> list[Runs]:
        for shard, source, kept in (("eu", "public.t", "c <> 'x' OR c IS NULL"), ("us", "public.u", "c = 'x'")):
            columns = {"shard": Column("varchar(2)", constant=shard), **table.pipeline.columns}
            own = {"name": f"{table.pipeline.name}_{shard}", "source": source, "filter": kept, "partition_size": 100}
            site = changed(table, columns=columns, key=["shard", "a"], **own, **changes)
            made.append(Runs(site, monkeypatch))
        return made

    yield both
    for runs in made:
        runs.made.clean()


def rows_of(runs: Runs, shard: str) -> list[tuple[Any, ...]]:
    return [row for row in found(runs.made) if row[0] == shard]


@pytest.mark.parametrize("settings", [{"deletes": "mark"}, REPLACE], ids=["incremental", "replace"])
def test_several_pipelines_share_a_sink_table_and_change_their_own_rows_only(
    shards: Callable[..., list[Runs]], settings: dict[str, Any]
) -> None:
    """Their filters exclude each other's rows, their keys are alike, and one source is truncated."""
    eu, us = shards(**settings)
    for number, runs in enumerate((eu, us, eu, us)):
        runs.run(f"run {number}", full_refresh=True)
    assert rows_of(eu, "eu") == [("eu", *row) for row in wanted(eu.made)]
    us_rows = [("us", *row) for row in wanted(eu.made, WANTED.replace("t WHERE d IS DISTINCT FROM", "u WHERE d ="))]
    assert rows_of(eu, "us") == us_rows
    eu.made.change("TRUNCATE t")
    if settings.get("mode") != "replace":
        with pytest.raises(DataError, match=r"32 of 32 rows of dbo\.\w+ are gone at the source"):
            eu.run("refused")
    eu.run("truncated", accept_deletes=True)
    assert rows_of(us, "us") == us_rows
    if settings.get("deletes") == "mark":
        sink = sink_sql.quote_table(eu.made.pipeline.sink)
        marked = us.made.query(f"SELECT [shard], COUNT(*) FROM {sink} WHERE [deleted_at] IS NOT NULL GROUP BY [shard]")
        assert marked == [("eu", 32)]
    else:
        assert rows_of(us, "eu") == []
    if settings.get("mode") == "replace":
        assert us.plan() == []  # the other's changes are none of its rows
    us.run("after", full_refresh=True)
    assert rows_of(us, "us") == us_rows


def test_a_column_that_pipelines_of_a_shared_table_gain_is_filled_by_each_for_its_rows(
    shards: Callable[..., list[Runs]],
) -> None:
    """The first adds it; the others find at their next load that it has no value in their rows."""
    runs = shards(deletes="keep")
    for each in runs:
        each.run("first")
        each.made.change(f"ALTER TABLE {each.made.pipeline.source.table} ADD COLUMN note text NOT NULL DEFAULT 'new'")
    for each in runs:
        each.made.change(f"UPDATE {each.made.pipeline.source.table} SET created = clock_timestamp() WHERE b = 12")
        each.made = changed(each.made, columns={**each.made.pipeline.columns, "note": "text"})
        each.run("second")
    eu, us = runs
    sink = sink_sql.quote_table(eu.made.pipeline.sink)
    counted = f"SELECT [shard], COUNT([note]), COUNT(*) FROM {sink} GROUP BY [shard] ORDER BY [shard]"
    assert eu.made.query(counted) == [("eu", 32, 32), ("us", 1, 30)]
    assert us.run("third")["updated"] == 29
    assert eu.made.query(counted) == [("eu", 32, 32), ("us", 30, 30)]
    assert [us.plan(), eu.plan()] == [[], []]


def test_definitions_without_renamed_columns_ask_the_table_itself() -> None:
    plain = make(
        DEFINITION, sink="dbo.t", columns={name: column.type for name, column in DEFINITION["columns"].items()}
    )
    assert source_rows(plain) == '"public"."t"'


STAMPED = {"loaded_at": "at", "deletes": "mark"}


def stamps(made: PipelineFixture) -> dict[int, datetime]:
    """The time at which a load wrote each row, by key."""
    return dict(made.query(f"SELECT [a], [at] FROM {sink_sql.quote_table(made.pipeline.sink)}"))


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
