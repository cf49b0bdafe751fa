"""A filter that is let through is decided alike by Postgres, DuckDB and SQL Server, whatever the value."""

from collections.abc import Iterator

import pytest
from etl.postgres.filter import Postgres as PostgresRenderer
from etl.sqlserver import checks as sink_checks
from hypothesis import given, settings

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.pipelines import make, window
from dev.sandbox.postgres import Postgres
from tests.harness.filter_databases import FilterDatabases, edges, filter_databases
from tests.harness.filters import EDGES, filters, mutated

LEAST_PAIRS = 2000
AS_WRITTEN = [
    "note = 'a' AND (flag)",
    "NOT (flag)",
    "flag <> false OR other = flag",
    "flag IS NOT TRUE AND coalesce(other, false)",
    "note IN ('a', 'e\u0301', '🚚') OR code LIKE 'a%'",
    "lower(word) = 'a' OR upper(note) <> 'A'",
    "long = note OR long <> 'a'",
    "id = '7FFFFFFF-0000-0000-0000-000000000002' OR id <> twin",
    "count + 1 > 5 AND -big < abs(price) * 2",
    "count * count > 5 OR small * 999999999999999999 < 0",
    "coalesce(price, 0) < 1.5 OR count IN (1, 2.5)",
    "big BETWEEN -9223372036854775807 AND 3000000000",
    "ratio > 0.7 OR half < 0.1",
    "day >= '2026-01-31' AND NOT day = due",
    "clock < '12:30:00.5' OR coalesce(local, '2026-01-01') > '1970-01-01'",
    "moment > '2026-03-29 01:30' AND seen IS NOT NULL",
    "doc NOT LIKE '%\"Test\"%' OR raw IS NULL",
]


@pytest.fixture(scope="module")
def databases(postgres: Postgres) -> Iterator[FilterDatabases]:
    with filter_databases(postgres) as made:
        yield made


def test_a_filter_is_decided_alike_everywhere(databases: FilterDatabases) -> None:
    before = databases.pairs

    @settings(max_examples=120)
    @given(text=filters)
    def compare(text: str) -> None:
        databases.compare(text)

    compare()
    assert databases.pairs - before >= LEAST_PAIRS
    assert databases.as_written >= databases.filters / 2, "Postgres decides about most of them as written"


@pytest.fixture(scope="module")
def loaded(postgres: Postgres, sink_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipelineFixture]:
    with edges(postgres) as url, pipeline_fixture(EDGES, url, sink_url, tmp_path_factory.mktemp("staging")) as made:
        made.run()
        yield made


@pytest.mark.parametrize("text", AS_WRITTEN)
def test_the_sink_counts_the_rows_that_the_filter_does_not_want(loaded: PipelineFixture, text: str) -> None:
    pipeline = make({**loaded.pipeline.model_dump(), "filter": text})
    rows, wanted = (
        len(loaded.source_rows()),
        len(loaded.source_rows(PostgresRenderer({}).condition(pipeline.predicate))),
    )
    assert 0 < wanted < rows
    assert loaded.query(sink_checks.count_breaches(pipeline, window(), [])) == [(0, rows - wanted)]


@pytest.mark.parametrize("text", AS_WRITTEN)
def test_what_people_write_is_decided_alike_everywhere(databases: FilterDatabases, text: str) -> None:
    before = databases.filters
    databases.compare(text)
    assert databases.filters == before + 1


@settings(max_examples=120)
@given(text=mutated())
def test_a_filter_with_something_wrong_is_refused_or_decided_alike(databases: FilterDatabases, text: str) -> None:
    databases.compare(text)
