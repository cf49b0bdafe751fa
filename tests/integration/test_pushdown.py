"""A filter that runs at the source decides as it does without: the same counts, the same rows, the same rejects."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from etl.errors import ConfigurationError
from etl.steps.classify import Classifier
from etl.steps.extract import reading
from etl.steps.progress import Progress
from etl.storage.staging import Manifest
from hypothesis import given, reject, settings
from pydantic import ValidationError

from dev.sandbox.pipeline_fixture import PipelineFixture, existing_fixture, pipeline_fixture
from dev.sandbox.pipelines import ORDERS, make
from dev.sandbox.postgres import Postgres
from tests.harness.filter_databases import fill
from tests.harness.filters import BROKEN, EDGES, SOURCE_TABLE, VALUES, filters


@pytest.fixture(scope="module")
def edges(postgres: Postgres) -> Iterator[str]:
    """A database with a table of edge cases, alone and in all sorts of company."""
    name = f"edges_{uuid.uuid4().hex[:8]}"
    url = postgres.create_database(name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SOURCE_TABLE.encode())
        fill(connection, {name: [*values, *BROKEN.get(name, [])] for name, values in VALUES.items()})
    yield url
    postgres.drop_database(name)


def judged(made: PipelineFixture) -> tuple[Manifest, set[str], set[str]]:
    """The manifest, the kept rows and the rejected ones."""
    work = made.work()
    folder = work.staging.new_folder("run")
    with reading(work) as source, Classifier(work, source.schema, f"{folder}/rows.parquet", Progress("test")) as judge:
        kept = pa.Table.from_batches(judge.kept(source.batches()), judge.schema)
        manifest = judge.verdict(source.manifest())
    rejects = []
    if manifest.files:
        with work.staging.reading(manifest.files["rejects"]) as file:
            rejects = pq.read_table(file).to_pylist()
    return manifest.model_copy(update={"files": {}}), set(map(str, kept.to_pylist())), set(map(str, rejects))


@given(condition=filters)
@settings(max_examples=30)
def test_a_filter_decides_at_the_source_as_it_does_without(
    edges: str, tmp_path_factory: pytest.TempPathFactory, condition: str
) -> None:
    definition = {**EDGES, "filter": condition, "tolerated_rejects": 10_000}
    try:
        make(definition)
    except ValidationError:
        reject()
    staging = tmp_path_factory.mktemp("staging")
    without, with_pushdown = (
        judged(existing_fixture(make(definition, pushdown=pushdown), edges, "mssql://u@none/none", staging))
        for pushdown in (False, True)
    )
    manifest, expected = with_pushdown[0], without[0]
    asked = {"fingerprint": expected.fingerprint, "row_bytes": expected.row_bytes}
    assert manifest.model_copy(update=asked) == expected
    assert with_pushdown[1:] == without[1:]


def test_what_the_filter_drops_is_not_sent(source_url: str, sink_url: str, tmp_path: Path) -> None:
    with pipeline_fixture(ORDERS, source_url, sink_url, tmp_path, pushdown=True) as made:
        given = made.run()
        with made.work().staging.reading(given["extract"].files["rows"]) as file:
            assert pq.read_metadata(file).num_rows == 1600
        (audit,) = made.audits()
        assert (audit["extracted"], audit["kept"], audit["dropped"], audit["rejected"]) == (4000, 1600, 2400, 0)
        assert made.sink_rows() == made.source_rows("status = 'confirmed'")
        assert made.cli("run", "again").returncode == 0
        assert len({audit["checksum"] for audit in made.audits()}) == 1


@pytest.mark.parametrize("pushdown", [False, True])
@pytest.mark.parametrize("declared", ["varchar(3)", "text"])
def test_a_padded_column_under_another_name_is_refused(
    source_url: str, sink_url: str, tmp_path: Path, declared: str, pushdown: bool
) -> None:
    columns = {**ORDERS["columns"], "currency": declared}
    changes: dict[str, Any] = {"columns": columns, "filter": "currency = 'EUR'", "pushdown": pushdown}
    with (
        pipeline_fixture(ORDERS, source_url, sink_url, tmp_path, **changes) as made,
        pytest.raises(ConfigurationError, match=r"currency of public\.orders is character, .*; declare it as it is, "),
    ):
        made.run()


@pytest.mark.parametrize("condition", ["status = 'confirmed'", "status = 'confirmed' AND currency IS NOT NULL"])
def test_a_padded_column_under_another_name_that_no_filter_compares_is_carried(
    source_url: str, sink_url: str, tmp_path: Path, condition: str
) -> None:
    columns = {**ORDERS["columns"], "currency": "varchar(3)"}
    with pipeline_fixture(ORDERS, source_url, sink_url, tmp_path, columns=columns, filter=condition) as made:
        made.run()
        assert made.sink_rows() == made.source_rows("status = 'confirmed'")
