"""A column that a table of a million rows gains is filled by one run, in bounded memory; and the time of others beside.

That those wait for nothing is shown by tests/integration/test_evolution.py: here they share two cores with it.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import psycopg
import pytest
from etl.model.pipeline import Pipeline
from etl.model.window import Partition

from dev.sandbox.pipeline_fixture import STEPS, PipelineFixture, pipeline_fixture
from dev.sandbox.pipelines import ORDERS
from dev.sandbox.postgres import Postgres
from dev.sandbox.process import die_with_parent
from tests.harness.runs import Runs

ROWS = 1_000_000
LIMIT_MB = 300
"""As for any other load (test_memory.py)."""
COLUMN = {"remark": "varchar(40) null"}
# No version grows: the new column alone makes the rows differ.
MANY = f"""
ALTER TABLE orders DISABLE TRIGGER ALL;
INSERT INTO orders (customer, status, currency, amount, created_at, updated_at)
SELECT 'Bulk ' || n, 'confirmed', 'EUR', n / 100.0, times.at, times.at
FROM generate_series(1, {ROWS}) AS n, LATERAL (SELECT timestamptz '2026-03-01' + n * interval '1 second') AS times (at)
"""
ADD = """
ALTER TABLE orders ADD remark varchar(40);
UPDATE orders SET remark = 'remark ' || order_id WHERE order_id % 10 > 0
"""


@dataclass
class Other:
    """Another pipeline into the same sink, run again and again."""

    runs: Runs
    order: int
    """The order that changes."""
    number: int = 0

    def seconds(self) -> float:
        """How long a whole run takes that has one row to write."""
        self.number += 1
        self.runs.made.change("UPDATE orders SET amount = amount + 1 WHERE order_id = %s", self.order)
        began = time.monotonic()
        assert self.runs.run(f"run {self.number}")["updated"] == 1
        return time.monotonic() - began


@pytest.fixture
def large(postgres: Postgres, template: str, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    url = postgres.create_database("fill_large", template=template)
    with pipeline_fixture(ORDERS, url, sink_url, tmp_path / "large") as made:
        made.change(MANY)
        yield made
    postgres.drop_database("fill_large")


def test_a_column_of_a_million_rows_is_filled_by_one_run_beside_others(
    large: PipelineFixture, orders: PipelineFixture, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    partitions = Runs(large, monkeypatch).plan()
    Runs(large, monkeypatch).steps("first", partitions, "run")
    Runs(large, monkeypatch).reconcile("first", partitions)
    large.change(ADD)
    columns = {**large.pipeline.columns, **COLUMN}
    wider = replace(large, pipeline=Pipeline.model_validate({**large.pipeline.model_dump(), "columns": columns}))

    partitions = Runs(wider, monkeypatch).plan()
    other = Other(Runs(orders, monkeypatch), min(orders.source_rows("status = 'confirmed'"))[0])
    other.runs.run("run 0")
    alone = median(other.seconds() for _ in range(5))
    peaks: dict[str, float] = {}
    took: dict[str, float] = dict.fromkeys(STEPS, 0.0)
    beside: list[float] = []
    for partition in map(Partition.model_validate_json, partitions):
        for step in STEPS:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.bench.speed.peak", *wider.command(step, "second", partition)],
                env=wider.environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                preexec_fn=die_with_parent,
            )  # fmt: skip
            while process.poll() is None:
                beside.append(other.seconds())
            used = json.loads(process.communicate()[0])
            assert used["exit_code"] == 0
            peaks[step] = max(peaks.get(step, 0), used["peak_mb"])
            took[step] += used["ended"] - used["began"]
    totals = Runs(wider, monkeypatch).reconcile("second", partitions)

    with capsys.disabled():
        print(f"\n{ROWS:,} rows, {len(partitions)} partitions, one after the other:")
        print(*(f"  {step}: {took[step]:.1f} s, {peaks[step]:.0f} MB at most" for step in STEPS), sep="\n")
        print(f"  meanwhile {len(beside)} runs of another: {median(beside):.2f} s each, {max(beside):.2f} s at most")
        print(f"  ({alone:.2f} s with nothing beside it)")
    assert (totals["verdict"], totals["inserted"]) == ("adds up", 0)
    assert sums_of_sink(wider) == sums_of_source(wider)
    assert not any(
        Partition.model_validate_json(partition).window.fills for partition in Runs(wider, monkeypatch).plan()
    )
    assert max(peaks.values()) < LIMIT_MB


def sums_of_source(made: PipelineFixture) -> tuple[int, ...]:
    """Rows, rows with a value, the length of all values, and a sum to which each value adds by its row."""
    query = (
        "count(*), count(remark), sum(length(remark)), sum(CASE WHEN remark = 'remark ' || order_id THEN order_id END)"
    )
    with psycopg.connect(made.source_url) as connection:
        (found,) = connection.execute(f"SELECT {query} FROM orders WHERE status = 'confirmed'".encode()).fetchall()
        return tuple(map(int, found))


def sums_of_sink(made: PipelineFixture) -> tuple[int, ...]:
    own = "CASE WHEN [remark] = N'remark ' + CAST([order_id] AS nvarchar(20)) THEN [order_id] END"
    query = f"COUNT_BIG(*), COUNT_BIG([remark]), SUM(CAST(LEN([remark]) AS bigint)), SUM({own})"
    (found,) = made.query(f"SELECT {query} FROM [dbo].[{made.pipeline.sink.table}]")
    return tuple(map(int, found))
