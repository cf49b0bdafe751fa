"""However the source changes, and steps are repeated, reordered or broken off: the sink equals the model."""

import shutil
import tempfile
import uuid
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from etl.errors import TryAgainError
from etl.model.window import Partition
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.pipelines import ORDERS, whole
from dev.sandbox.postgres import Postgres

STATUSES = ("pending", "confirmed", "shipped", "cancelled", "refunded")
Rows = dict[Any, tuple[Any, ...]]


class Orders(RuleBasedStateMachine):
    """Orders change while runs extract, filter and load them in any order, again and again, at once or only in part."""

    postgres: ClassVar[Postgres]
    template: ClassVar[str]
    sink_url: ClassVar[str]
    runs = Bundle("runs")

    @initialize()
    def empty(self) -> None:
        self.database = f"model_{uuid.uuid4().hex[:8]}"
        self.staging = Path(tempfile.mkdtemp(prefix="model-"))
        url = self.postgres.create_database(self.database, template=self.template)
        self.resources = ExitStack()
        self.site: PipelineFixture = self.resources.enter_context(
            pipeline_fixture(ORDERS, url, self.sink_url, self.staging)
        )
        self.site.change("DELETE FROM orders WHERE order_id > 12")
        self.extracted: dict[str, Rows] = {}
        self.filtered: dict[str, Rows] = {}
        self.model: Rows = {}

    def teardown(self) -> None:
        if not hasattr(self, "site"):
            return
        if not self.extracted:
            self.resources.close()
        else:
            self._end_with_a_clean_run()
        self.postgres.drop_database(self.database)
        shutil.rmtree(self.staging)

    def _end_with_a_clean_run(self) -> None:
        """After a clean run every confirmed order is in the sink as it is, and nothing else was lost."""
        with self.resources:
            self.site.run("clean", _refreshing("differing", whole()))
            self.model |= self.site.source_rows("status = 'confirmed'")
            assert self.site.sink_rows() == self.model
            assert self.site.staging_tables() == []

    @rule(status=st.sampled_from(STATUSES))
    def an_order_comes_in(self, status: str) -> None:
        self.site.change("INSERT INTO orders (customer, status, currency, amount) VALUES ('New', %s, 'EUR', 5)", status)

    @rule(order=st.integers(1, 14), status=st.sampled_from(STATUSES))
    def an_order_changes(self, order: int, status: str) -> None:
        self.site.change("UPDATE orders SET status = %s, amount = amount + 1 WHERE order_id = %s", status, order)

    @rule(order=st.integers(1, 14), note=st.sampled_from([None, "", "x", "X", "x ", "\u00e4", "a"]))
    def an_order_changes_without_its_version(self, order: int, note: str | None) -> None:
        """As where a column was added to the table, or a trigger was off."""
        self.site.change("ALTER TABLE orders DISABLE TRIGGER USER")
        self.site.change("UPDATE orders SET note = %s WHERE order_id = %s", note, order)
        self.site.change("ALTER TABLE orders ENABLE TRIGGER USER")

    @rule(order=st.integers(1, 14))
    def an_order_is_deleted(self, order: int) -> None:
        self.site.change("DELETE FROM orders WHERE order_id = %s", order)

    @rule(target=runs, low=st.booleans(), refresh=st.sampled_from(["newer", "newer", "differing", "all"]))
    def extract(self, low: bool, refresh: str) -> tuple[str, Partition]:
        run_id = f"run {len(self.extracted)}"
        since = datetime(2026, 1, 1, 0, 20, tzinfo=UTC) if low else None
        return self._extract(run_id, _refreshing(refresh, whole(low=since)))

    @rule(run=runs)
    def extract_again(self, run: tuple[str, Partition]) -> None:
        self._extract(*run)

    def _extract(self, run_id: str, partition: Partition) -> tuple[str, Partition]:
        low = partition.window.low
        condition = f"updated_at > '{low.isoformat()}'" if low else "true"
        self.site.run(run_id, partition, "extract")
        self.extracted[run_id] = self.site.source_rows(condition)
        return run_id, partition

    @rule(run=runs)
    def filter(self, run: tuple[str, Partition]) -> None:
        self.site.run(*run, "filter")
        place = list(ORDERS["columns"]).index("status")
        rows = self.extracted[run[0]].items()
        self.filtered[run[0]] = {key: row for key, row in rows if row[place] == "confirmed"}

    @rule(run=runs)
    def load(self, run: tuple[str, Partition]) -> None:
        if run[0] not in self.filtered:
            with pytest.raises(TryAgainError):
                self.site.run(*run, "load")
            return
        self.site.run(*run, "load")
        self._bring(self.filtered[run[0]], run[1])

    def _bring(self, rows: Rows, partition: Partition) -> None:
        """The model's rows after these rows came in."""
        for key, row in rows.items():
            is_newer = key not in self.model or self.model[key][-1] < row[-1]
            is_same = not is_newer and self.model[key][-1] == row[-1]
            refresh = partition.window.refresh
            if is_newer or refresh == "all" or (is_same and refresh == "differing"):
                self.model[key] = row

    @rule(run=runs)
    def all_at_once(self, run: tuple[str, Partition]) -> None:
        low = run[1].window.low
        after = f" AND updated_at > '{low.isoformat()}'" if low else ""
        self.site.run(*run, "run")
        self._bring(self.site.source_rows(f"status = 'confirmed'{after}"), run[1])

    @rule(run=runs, step=st.sampled_from(["extract", "filter"]))
    def a_step_breaks_off(self, run: tuple[str, Partition], step: str) -> None:
        """Leftovers of an attempt that died before its manifest: files that no step may read."""
        staging = self.site.work(*run).staging
        with staging.writing(f"{staging.new_folder(step)}/rows.parquet") as file:  # type: ignore[arg-type]
            file.write(b"half a file")

    @invariant()
    def the_sink_equals_the_model(self) -> None:
        if getattr(self, "extracted", None):
            assert (self.site.sink_rows() if self.site.sink_exists() else {}) == self.model


def _refreshing(refresh: str, partition: Partition) -> Partition:
    return Partition.model_validate({"window": {**partition.window.model_dump(), "refresh": refresh}})


@pytest.fixture
def machine(postgres: Postgres, template: str, sink_url: str) -> type[Orders]:
    Orders.postgres, Orders.template, Orders.sink_url = postgres, template, sink_url
    return Orders


def test_any_sequence_of_changes_and_steps_ends_with_the_sink_equal_to_the_model(machine: type[Orders]) -> None:
    machine.TestCase.settings = settings(
        max_examples=25, stateful_step_count=20, suppress_health_check=list(HealthCheck)
    )
    machine.TestCase().runTest()
