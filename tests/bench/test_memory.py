"""However many rows and however wide: each process of the way takes less than 300 MB.

Rows that are longer than a batch take what `etl.memory` says, from which follows the longest that is carried.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from etl.errors import ExitCode
from etl.steps.memory import COPIES, ORDINARY_BYTES
from etl_airflow.pods.spec import MEMORY
from kubernetes.utils.quantity import parse_quantity

from dev.sandbox.pipeline_fixture import STEPS, PipelineFixture, pipeline_fixture
from dev.sandbox.pipelines import ORDERS

ROWS, WIDE_ROWS = 1_000_000, 25_000
LIMIT_MB = 300
# Wide: 8 KB of text that no codec makes much smaller.
MANY = """
ALTER TABLE orders DISABLE TRIGGER ALL;
INSERT INTO orders (customer, status, currency, amount, note, created_at, updated_at)
SELECT 'Bulk ' || n, 'confirmed', 'EUR', n / 100.0, {note},
       timestamptz '2026-03-01' + n * interval '1 second', timestamptz '2026-03-01' + n * interval '1 second'
FROM generate_series(1, {rows}) AS n
"""
NARROW = "'note ' || n"
WIDE = "(SELECT string_agg(md5((n * 256 + part)::text), '') FROM generate_series(1, 256) AS part)"

DOCUMENTS: dict[str, Any] = {
    "name": "documents",
    "source": "public.documents",
    "sink": "dbo.documents",
    "columns": {
        "id": "bigint", "title": "varchar(100)", "body": "text null", "raw": "bytea null", "doc": "jsonb null",
        "updated_at": "timestamptz",
    },
    "key": ["id"],
    "version": "updated_at",
    "filter": "title <> 'x'",
}  # fmt: skip
SHORT = """
CREATE TABLE documents
    (id bigint PRIMARY KEY, title text, body text, raw bytea, doc jsonb, updated_at timestamptz NOT NULL);
INSERT INTO documents SELECT n, 'short', 'text', 'bytes', '{"a": 1}', '2026-03-01' FROM generate_series(1, 3000) AS n
"""
# Random bytes in base64, of which no codec takes off more than a quarter; one long row after the other.
LONG = """
INSERT INTO documents SELECT 10000 + at, {title}, CASE at WHEN 1 THEN text END, CASE at WHEN 2 THEN text::bytea END,
       CASE at WHEN 3 THEN to_jsonb(text) END, '2026-03-02'
FROM generate_series(1, 3) AS at, LATERAL (SELECT translate(encode(string_agg(
         decode(md5((at * 10000000::bigint + n)::text), 'hex'), ''), 'base64'), E'\\n', '')
     FROM generate_series(1, {length} / 4 * 3 / 16) AS n) AS made (text)
"""


@pytest.fixture
def documents(source_url: str, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    with pipeline_fixture(DOCUMENTS, source_url, sink_url, tmp_path, tolerated_rejects=3) as made:
        made.change(SHORT)
        yield made


@pytest.fixture
def million(source_url: str, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    with pipeline_fixture(ORDERS, source_url, sink_url, tmp_path) as made:
        made.change(MANY.format(rows=ROWS, note=NARROW))
        yield made


@pytest.fixture
def wide(source_url: str, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    with pipeline_fixture(ORDERS, source_url, sink_url, tmp_path) as made:
        made.change(MANY.format(rows=WIDE_ROWS, note=WIDE))
        yield made


def peaks(
    made: PipelineFixture, capsys: pytest.CaptureFixture[str], *steps: str, code: int = 0, **changes: str
) -> list[float]:
    """The most memory that each step took, in MB; `changes` are made to the environment."""
    found = []
    for step in steps:
        command = [sys.executable, "-m", "tests.bench.speed.peak", *made.command(step)]
        environment = made.environment(**changes)
        completed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        used = json.loads(completed.stdout)
        assert used["exit_code"] == code, completed.stderr
        found.append(used["peak_mb"])
        with capsys.disabled():
            print(f"\n{step}: {used['peak_mb']:.0f} MB at most, {used['cpu_s']:.1f} s of CPU")
    return found


def test_a_million_rows_take_less_than_300_mb(million: PipelineFixture, capsys: pytest.CaptureFixture[str]) -> None:
    assert max(peaks(million, capsys, "run")) < LIMIT_MB
    (audit,) = million.audits()
    assert audit["inserted"] == audit["kept"] == ROWS + 1600
    assert max(peaks(million, capsys, *STEPS)) < LIMIT_MB


def test_rows_of_8_kb_take_less_than_300_mb(wide: PipelineFixture, capsys: pytest.CaptureFixture[str]) -> None:
    assert max(peaks(wide, capsys, "run", *STEPS)) < LIMIT_MB
    (audit,) = wide.audits()
    assert audit["unchanged"] + audit["inserted"] == audit["kept"] == WIDE_ROWS + 1600


@pytest.mark.parametrize("length", [20_000_000, 100_000_000])
def test_long_rows_take_a_few_copies_of_one_row_and_less_than_a_pod_has(
    length: int, documents: PipelineFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    documents.change(LONG.format(title="'long'", length=length))
    limit = ORDINARY_BYTES + COPIES * length
    assert limit < parse_quantity(MEMORY)
    assert max(peaks(documents, capsys, *STEPS, "run")) < limit / 1e6
    (audit,) = documents.audits()
    assert audit["inserted"] == audit["kept"] == 3003


def test_long_rows_that_are_rejected_take_no_more(
    documents: PipelineFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    documents.change(LONG.format(title="NULL", length=20_000_000))
    assert max(peaks(documents, capsys, *STEPS, "run")) < (ORDINARY_BYTES + COPIES * 20_000_000) / 1e6
    (audit,) = documents.audits()
    assert (audit["kept"], audit["rejected"]) == (3000, 3)


def test_rows_longer_than_memory_allows_are_refused_before_they_take_any(
    documents: PipelineFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    documents.change(LONG.format(title="'long'", length=100_000_000))
    found = peaks(documents, capsys, "extract", "run", code=ExitCode.DATA, LONGEST_ROW="90000000")
    assert max(found) < LIMIT_MB
