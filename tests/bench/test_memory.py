"""A million rows go through one process in less than 300 MB."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pipelines import ORDERS
from tests.support.site import Site, site

ROWS = 1_000_000
MANY = f"""
ALTER TABLE orders DISABLE TRIGGER ALL;
INSERT INTO orders (customer, status, currency, amount, note, created_at, updated_at)
SELECT 'Bulk ' || n, 'confirmed', 'EUR', n / 100.0, 'note ' || n,
       timestamptz '2026-03-01' + n * interval '1 second', timestamptz '2026-03-01' + n * interval '1 second'
FROM generate_series(1, {ROWS}) AS n
"""


@pytest.fixture
def million(source_url: str, sink_url: str, tmp_path: Path) -> Iterator[Site]:
    with site(ORDERS, source_url, sink_url, tmp_path) as made:
        made.change(MANY)
        yield made


def test_a_million_rows_take_less_than_300_mb(million: Site, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "tests.support.peak", *million.command("run")]
    completed = subprocess.run(command, env=million.environment(), capture_output=True, text=True, check=True)
    used = json.loads(completed.stdout)
    assert used["exit_code"] == 0, completed.stderr
    (audit,) = million.audits()
    assert audit["inserted"] == audit["kept"] == ROWS + 1600
    with capsys.disabled():
        print(f"\n{audit['kept']:,} rows: {used['peak_mb']:.0f} MB at most, {used['cpu_s']:.1f} s of CPU")
    assert used["peak_mb"] < 300
