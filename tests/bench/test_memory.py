"""A million rows go through one process in less than 300 MB."""

import os
import subprocess
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
    process = subprocess.Popen(million.command("run"), env=million.environment(), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    output = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, output
    (audit,) = million.audits()
    assert audit["inserted"] == audit["kept"] == ROWS + 1600
    peak = usage.ru_maxrss * 1024 / 1e6
    with capsys.disabled():
        print(f"\n{audit['kept']:,} rows: {peak:.0f} MB at most, {usage.ru_utime + usage.ru_stime:.1f} s of CPU")
    assert peak < 300
