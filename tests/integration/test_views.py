"""Views, foreign tables and partitioned tables as sources; the key of the first two is declared only."""

import logging
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException
from etl.errors import ConfigurationError, DataError
from etl.model.pipeline import Pipeline
from etl.model.window import Partition

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.postgres import Postgres
from tests.harness.runs import Runs

FILMS: dict[str, Any] = {
    "name": "films", "source": "public.film_list",
    "columns": {"fid": "bigint", "language": "varchar(20)", "title": "text null", "at": "timestamptz"},
    "key": ["fid"], "version": "at", "filter": "language <> 'none'", "partition_size": 11,
}  # fmt: skip
TABLES = """
CREATE TABLE film (fid bigint, language varchar(20), at timestamptz);
CREATE TABLE title (fid bigint PRIMARY KEY, title text NOT NULL);
INSERT INTO film SELECT n, 'en', now() FROM generate_series(1, 30) AS n;
INSERT INTO title SELECT n, 'title ' || n FROM generate_series(1, 25) AS n;
"""
QUERY = "SELECT fid, language, title, at FROM film LEFT JOIN title USING (fid)"
VIEW = f"CREATE VIEW film_list AS {QUERY}"
SOURCES = {
    "view": VIEW,
    "materialized": f"CREATE MATERIALIZED VIEW film_list AS {QUERY}",
    "partitioned": "ALTER TABLE film RENAME TO old; CREATE TABLE film (fid bigint, language varchar(20), title text,"
    " at timestamptz NOT NULL, PRIMARY KEY (fid)) PARTITION BY RANGE (fid); CREATE TABLE film_1 PARTITION OF film FOR"
    " VALUES FROM (0) TO (20); CREATE TABLE film_2 PARTITION OF film FOR VALUES FROM (20) TO (99); INSERT INTO film"
    " SELECT fid, language, title, at FROM old LEFT JOIN title USING (fid); ALTER TABLE film RENAME TO film_list;",
    "foreign": "CREATE EXTENSION postgres_fdw; CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host"
    " '127.0.0.1', port '{port}', dbname '{name}'); CREATE USER MAPPING FOR CURRENT_USER SERVER here OPTIONS (user"
    f" 'postgres', password '{{password}}'); CREATE VIEW behind AS {QUERY}; CREATE FOREIGN TABLE film_list (fid bigint,"
    " language varchar(20), title text, at timestamptz) SERVER here OPTIONS (table_name 'behind')",
}


@pytest.fixture
def films(postgres: Postgres, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    """A pipeline of a view that is not there yet, and the tables behind it."""
    yield from made_on(postgres, sink_url, tmp_path)


def made_on(server: Postgres, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    url = server.create_database(f"views_{uuid.uuid4().hex[:8]}")
    with pipeline_fixture(FILMS, url, sink_url, tmp_path) as made:
        made.change(TABLES)
        yield made
    server.drop_database(url.rpartition("/")[2])


@pytest.mark.parametrize("kind", SOURCES)
def test_any_relation_moves_by_a_declared_key(
    request: pytest.FixtureRequest, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    server = request.getfixturevalue("full_postgres" if kind == "foreign" else "postgres")
    for made in made_on(server, sink_url, tmp_path):
        name = made.source_url.rpartition("/")[2]
        made.change(SOURCES[kind].format(port=server.port, name=name, password=server.password))
        runs = Runs(made, monkeypatch)
        partitions = [Partition.model_validate_json(each) for each in runs.plan()]
        assert len(partitions) == 3
        assert {each.share is None for each in partitions} == {kind == "partitioned"}
        assert runs.run("first")["inserted"] == 30
        if kind != "partitioned":
            made.change("UPDATE film SET language = 'fr', at = clock_timestamp() WHERE fid > 20")
            made.change("REFRESH MATERIALIZED VIEW film_list" if kind == "materialized" else "SELECT 1")
        else:
            made.change("UPDATE film_list SET language = 'fr', at = clock_timestamp() WHERE fid > 20")
        assert runs.run("second")["updated"] == 10
        assert made.sink_rows() == made.source_rows()


def test_a_view_that_fails_for_a_row_is_said_to(films: PipelineFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    films.change("CREATE VIEW film_list AS SELECT 60 / (fid - 7) AS fid, language, 'a' AS title, at FROM film")
    pipeline = Pipeline.model_validate(films.pipeline.model_dump() | {"mode": "replace", "version": None})
    told = r"film_list has a row for which an expression, of the view .* fails; the source said: division by zero\."
    with pytest.raises(AirflowFailException, match=told):
        Runs(replace(films, pipeline=pipeline), monkeypatch).plan()


def test_a_key_that_several_rows_have_is_named_and_nothing_is_loaded(
    films: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    films.change(VIEW)
    films.change("INSERT INTO film VALUES (17, 'none', now())")
    runs = Runs(films, monkeypatch)
    runs.run("first")  # the filter drops one of both
    before = films.sink_rows()
    films.change("INSERT INTO film VALUES (17, 'it', now())")
    for steps in (["run"], ["extract"]):
        with pytest.raises(
            ConfigurationError, match=r"2 rows of public\.film_list have the key fid=17: it does not identify a row"
        ):
            films.run("second", None, *steps)
    assert films.sink_rows() == before


def test_a_key_that_is_null_is_rejected_and_a_version_that_is_null_is_named(
    films: PipelineFixture, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    films.change(VIEW)
    films.change("INSERT INTO film VALUES (31, 'en', NULL)")
    runs = Runs(films, monkeypatch)
    with caplog.at_level(logging.WARNING):
        runs.run("first")
    assert "1 rows of public.film_list are not read" in caplog.text
    assert "fid=31 at None" in caplog.text
    films.change("INSERT INTO film VALUES (NULL, 'en', clock_timestamp()), (NULL, 'en', clock_timestamp())")
    with pytest.raises(DataError, match=r"2 rows break the type rules.*fid is null but required"):
        runs.run("second")


def test_rows_that_row_level_security_hides_from_a_view_are_not_missing_in_a_green_run(
    films: PipelineFixture, postgres: Postgres, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    films.change(VIEW)
    role = f"reader_{uuid.uuid4().hex[:8]}"
    films.change(f"CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT SELECT ON film, title, film_list TO {role}")
    films.change("ALTER VIEW film_list SET (security_invoker = true); ALTER TABLE film ENABLE ROW LEVEL SECURITY")
    url = films.source_url.replace(f"{postgres.user}:{postgres.password}@", f"{role}:x@")
    with (
        pipeline_fixture(FILMS, url, sink_url, tmp_path) as made,
        pytest.raises(AirflowFailException, match='would be affected by row-level security policy for table "film"'),
    ):
        Runs(made, monkeypatch).plan()
    films.change(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_table_without_a_unique_index_is_refused_still(films: PipelineFixture) -> None:
    films.change("CREATE TABLE film_list AS SELECT * FROM film")
    with psycopg.connect(films.source_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE film_list ALTER fid SET NOT NULL, ALTER at SET NOT NULL, ADD title text")
    with pytest.raises(ConfigurationError, match=r"no unique index of public\.film_list covers fid"):
        films.run()
