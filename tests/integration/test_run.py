"""`etl run` does at once, in memory, what the steps do one after the other: the same rows, counts and refusals."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from etl.errors import DataError, TryAgainError
from etl.steps.reading import Reading

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.pipelines import ORDERS


@pytest.fixture
def broken_orders(source_url: str, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    """Orders of which two cannot be carried, and two may be rejected."""
    with pipeline_fixture(ORDERS, source_url, sink_url, tmp_path, tolerated_rejects=2) as made:
        made.change("ALTER TABLE orders ALTER amount TYPE numeric")
        made.change("UPDATE orders SET amount = 'NaN' WHERE order_id IN (10, 20)")
        yield made


def files(made: PipelineFixture) -> list[str]:
    """Every file in staging."""
    work = made.work()
    return [str(path) for path in work.staging.filesystem.find(made.settings.staging_url)]


def counts(made: PipelineFixture) -> list[dict[str, Any]]:
    """The audit rows, but for the run that each is of."""
    return [{name: value for name, value in audit.items() if name != "run_id"} for audit in made.audits()]


def test_it_does_what_the_steps_do_and_leaves_no_file(source_url: str, sink_url: str, tmp_path: Path) -> None:
    with (
        pipeline_fixture(ORDERS, source_url, sink_url, tmp_path / "separate") as separate,
        pipeline_fixture(ORDERS, source_url, sink_url, tmp_path / "at once") as at_once,
    ):
        separate.run()
        at_once.run("run", None, "run")
        assert at_once.sink_rows() == separate.sink_rows() == at_once.source_rows("status = 'confirmed'")
        assert counts(at_once) == counts(separate)
        assert files(at_once) == []
        assert at_once.staging_tables() == []


def test_repeated_it_changes_nothing(orders: PipelineFixture) -> None:
    orders.run("run", None, "run")
    rows, audits = orders.sink_rows(), orders.audits()
    orders.run("run", None, "run")
    assert (orders.sink_rows(), orders.audits()) == (rows, audits)


def test_rejects_are_set_aside_for_as_long_as_there_are_any(broken_orders: PipelineFixture) -> None:
    for _ in range(2):
        broken_orders.run("run", None, "run")
        (audit,) = broken_orders.audits()
        assert (audit["kept"], audit["rejected"]) == (1598, 2)
        manifest = broken_orders.work().staging.manifest("run", broken_orders.work().fingerprint)
        assert [name.endswith(manifest.files["rejects"]) for name in files(broken_orders) if "parquet" in name] == [
            True
        ]
    broken_orders.change("UPDATE orders SET amount = 1 WHERE order_id IN (10, 20)")
    broken_orders.run("run", None, "run")
    assert [name for name in files(broken_orders) if "parquet" in name] == []
    assert broken_orders.sink_rows() == broken_orders.source_rows("status = 'confirmed'")


def test_more_rejects_than_tolerated_load_nothing(broken_orders: PipelineFixture) -> None:
    broken_orders.change("UPDATE orders SET amount = 1.005 WHERE order_id = 40")
    with pytest.raises(DataError, match="3 rows break the type rules, 2 are tolerated; none was loaded"):
        broken_orders.run("run", None, "run")
    assert broken_orders.sink_rows() == {}
    assert (broken_orders.audits(), broken_orders.staging_tables()) == ([], [])


def test_a_source_that_breaks_off_loads_nothing(orders: PipelineFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken_off(reading: Reading) -> Iterator[pa.RecordBatch]:
        yield next(whole(reading))
        raise TryAgainError("the source broke off")

    whole = Reading.batches
    monkeypatch.setattr(Reading, "batches", broken_off)
    with pytest.raises(TryAgainError, match=r"^the source broke off$"):
        orders.run("run", None, "run")
    assert orders.sink_rows() == {}
    assert (orders.audits(), orders.staging_tables()) == ([], [])
    assert [thread.name for thread in threading.enumerate() if thread.name == "read-ahead"] == []
