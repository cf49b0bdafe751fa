"""However many rows and however wide: each process of the way takes less than 300 MB."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pipelines import ORDERS
from tests.support.site import STEPS, Site, site

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


@pytest.fixture
def million(source_url: str, sink_url: str, tmp_path: Path) -> Iterator[Site]:
    with site(ORDERS, source_url, sink_url, tmp_path) as made:
        made.change(MANY.format(rows=ROWS, note=NARROW))
        yield made


@pytest.fixture
def wide(source_url: str, sink_url: str, tmp_path: Path) -> Iterator[Site]:
    with site(ORDERS, source_url, sink_url, tmp_path) as made:
        made.change(MANY.format(rows=WIDE_ROWS, note=WIDE))
        yield made


def peaks(made: Site, capsys: pytest.CaptureFixture[str], *steps: str) -> dict[str, float]:
    """The most memory that each step took, in MB."""
    found = {}
    for step in steps:
        command = [sys.executable, "-m", "tests.support.peak", *made.command(step)]
        completed = subprocess.run(command, env=made.environment(), capture_output=True, text=True, check=True)
        used = json.loads(completed.stdout)
        assert used["exit_code"] == 0, completed.stderr
        found[step] = used["peak_mb"]
        with capsys.disabled():
            print(f"\n{step}: {used['peak_mb']:.0f} MB at most, {used['cpu_s']:.1f} s of CPU")
    return found


def test_a_million_rows_take_less_than_300_mb(million: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert peaks(million, capsys, "run")["run"] < LIMIT_MB
    (audit,) = million.audits()
    assert audit["inserted"] == audit["kept"] == ROWS + 1600
    assert max(peaks(million, capsys, *STEPS).values()) < LIMIT_MB


def test_rows_of_8_kb_take_less_than_300_mb(wide: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert max(peaks(wide, capsys, "run", *STEPS).values()) < LIMIT_MB
    (audit,) = wide.audits()
    assert audit["unchanged"] + audit["inserted"] == audit["kept"] == WIDE_ROWS + 1600
