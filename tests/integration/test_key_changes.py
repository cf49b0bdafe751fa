"""Keys that the source takes for others than the sink: a renamed label of an enum, texts that differ in case only."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.postgres import Postgres
from tests.harness.runs import Runs

DEFINITION: dict[str, Any] = {
    "name": "t", "source": "public.t", "columns": {"n": "integer", "k": "varchar(63)", "at": "timestamptz"},
    "key": ["n", "k"], "version": "at", "filter": "true", "deletes": "delete",
}  # fmt: skip


@pytest.fixture
def table(postgres: Postgres, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    """The fixture of a table that a test makes."""
    name = f"key_changes_{uuid.uuid4().hex[:8]}"
    with pipeline_fixture(DEFINITION, postgres.create_database(name), sink_url, tmp_path) as made:
        yield made
    postgres.drop_database(name)


def make(table: PipelineFixture, kind: str) -> None:
    table.change(f"CREATE TABLE t (n integer, k {kind}, at timestamptz NOT NULL, PRIMARY KEY (n, k))")
    table.change("INSERT INTO t VALUES (1, 'A', '2026-01-02'), (2, 'B', '2026-01-01')")


@pytest.mark.parametrize("kind", ["mood", "feeling"])
def test_a_renamed_label_of_an_enum_in_the_key_is_another_key(
    table: PipelineFixture, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are gone under the old label, and brought under the new one, although no version has changed."""
    table.change("CREATE TYPE mood AS ENUM ('A', 'B'); CREATE DOMAIN feeling AS mood")
    make(table, kind)
    runs = Runs(table, monkeypatch)
    runs.run("first")
    table.change("ALTER TYPE mood RENAME VALUE 'A' TO 'C'")
    assert runs.run("second")["deleted"] == 1
    assert table.sink_rows() == table.source_rows()


@pytest.mark.parametrize("kind", ["citext", "text COLLATE any_case"])
def test_a_key_that_differs_in_case_only_is_another_key(
    kind: str, full_postgres: Postgres, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the source both are equal, but not for the sink."""
    url = full_postgres.create_database(f"key_changes_{uuid.uuid4().hex[:8]}")
    with pipeline_fixture(DEFINITION, url, sink_url, tmp_path) as table:
        table.change("CREATE EXTENSION citext")
        table.change("CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
        make(table, kind)
        runs = Runs(table, monkeypatch)
        runs.run("first")
        table.change("UPDATE t SET k = 'a', at = clock_timestamp() WHERE n = 1")
        totals = runs.run("second")
        assert (totals["inserted"], totals["deleted"]) == (1, 1)
        assert table.sink_rows() == table.source_rows()
    full_postgres.drop_database(url.rpartition("/")[2])
