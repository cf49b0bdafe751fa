"""Rejected rows come in later, when they are corrected at the source."""

from pathlib import Path

import pytest

from dev.sandbox.pipeline_fixture import pipeline_fixture
from dev.sandbox.pipelines import ORDERS
from tests.harness.runs import Runs


def test_a_reject_that_is_corrected_at_the_source_comes_with_the_next_run(
    source_url: str, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pipeline_fixture(ORDERS, source_url, sink_url, tmp_path, tolerated_rejects=1) as made:
        runs = Runs(made, monkeypatch)
        made.change(
            "ALTER TABLE orders ALTER amount TYPE numeric; UPDATE orders SET amount = 1.005 WHERE order_id = 10"
        )
        first = runs.run("first")
        assert (first["rejected"], first["inserted"], first["watermark_advanced"]) == (1, 1599, True)
        made.change("UPDATE orders SET amount = 1.01 WHERE order_id = 10")
        second = runs.run("second")
        assert (second["rejected"], second["inserted"]) == (0, 1)
        assert made.sink_rows() == made.source_rows("status = 'confirmed'")
