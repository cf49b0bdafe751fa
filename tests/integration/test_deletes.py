"""Rows that the source does not have any more are kept, marked or deleted, as the pipeline says."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from airflow.sdk.exceptions import AirflowFailException
from etl.errors import DataError
from etl.model.window import Partition
from etl.steps import missing
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.pipelines import ORDERS
from dev.sandbox.postgres import Postgres
from tests.faults.cuts import CutError, count_statements, cut_commit
from tests.harness.runs import Runs

KEPT = "status = 'confirmed'"
OF_MODE: dict[str, dict[str, Any]] = {"incremental": {}, "replace": {"mode": "replace", "version": None}}
ORDER = st.integers(1, 14)
STATUS = st.sampled_from(["confirmed", "confirmed", "cancelled"])
AGES = {"older": "- interval '1 year'", "equal": "", "newer": "+ interval '1 second'"}


def marked(site: PipelineFixture) -> set[Any]:
    query = f"SELECT [order_id] FROM [dbo].[{site.pipeline.sink.table}] WHERE [deleted_at] IS NOT NULL"
    return {(key,) for (key,) in site.query(query)}


class Source(RuleBasedStateMachine):
    """Orders come, change, go and come back at any version; runs are whole, broken off, or refresh everything."""

    postgres: ClassVar[Postgres]
    template: ClassVar[str]
    sink_url: ClassVar[str]
    changes: ClassVar[dict[str, Any]]
    patch: ClassVar[pytest.MonkeyPatch]

    @initialize()
    def begin(self) -> None:
        self.database, self.runs_made = f"deletes_{uuid.uuid4().hex[:8]}", 0
        self.staging = Path(tempfile.mkdtemp(prefix="deletes-"))
        url = self.postgres.create_database(self.database, template=self.template)
        self.resources = ExitStack()
        self.site = self.resources.enter_context(
            pipeline_fixture(ORDERS, url, self.sink_url, self.staging, **self.changes)
        )
        self.site.change("DELETE FROM orders WHERE order_id > 12")
        # Never without a row: then nothing is deleted, as another test shows.
        self.site.change(
            "INSERT INTO orders (order_id, customer, status, currency, amount) VALUES"
            " (99, 'Stays', 'confirmed', 'EUR', 5)"
        )
        self.runs = Runs(self.site, self.patch)
        self.model: dict[Any, tuple[Any, ...]] = {}
        self.marks: set[Any] = set()
        self.run(refresh=False)

    def teardown(self) -> None:
        if hasattr(self, "site"):
            with self.resources:
                self.run(refresh=True)
            self.postgres.drop_database(self.database)
            shutil.rmtree(self.staging)

    @rule(status=STATUS)
    def an_order_comes_in(self, status: str) -> None:
        self.site.change("INSERT INTO orders (customer, status, currency, amount) VALUES ('New', %s, 'EUR', 5)", status)

    @rule(order=ORDER, status=STATUS)
    def an_order_changes(self, order: int, status: str) -> None:
        self.site.change("UPDATE orders SET status = %s, amount = amount + 1 WHERE order_id = %s", status, order)

    @rule(order=ORDER)
    def an_order_changes_without_its_version(self, order: int) -> None:
        self.untriggered("UPDATE orders SET amount = amount + 1 WHERE order_id = %s", order)

    @rule(order=ORDER)
    def an_order_gets_another_key(self, order: int) -> None:
        self.site.change(
            "UPDATE orders SET order_id = nextval(pg_get_serial_sequence('orders', 'order_id')) WHERE order_id = %s",
            order,
        )

    @rule(order=ORDER)
    def an_order_is_deleted(self, order: int) -> None:
        self.site.change("DELETE FROM orders WHERE order_id = %s", order)

    @rule(order=ORDER, age=st.sampled_from(list(AGES)))
    def a_key_is_assigned_anew(self, order: int, age: str) -> None:
        """With other values, at an older, the same or a newer version."""
        self.untriggered(
            f"UPDATE orders SET customer = 'Anew', created_at = created_at, updated_at = updated_at {AGES[age]}"
            " WHERE order_id = %s", order,
        )  # fmt: skip

    @rule()
    def the_table_is_truncated_and_loaded_again(self) -> None:
        self.untriggered(
            "CREATE TABLE again AS SELECT * FROM orders WHERE order_id <> 5; TRUNCATE orders;"
            " INSERT INTO orders SELECT * FROM again; DROP TABLE again"
        )

    def untriggered(self, statement: str, *parameters: object) -> None:
        """Change rows without the trigger that makes versions grow."""
        self.site.change("ALTER TABLE orders DISABLE TRIGGER USER")
        self.site.change(statement, *parameters)
        self.site.change("ALTER TABLE orders ENABLE TRIGGER USER")

    @rule(refresh=st.booleans(), stops_after=st.sampled_from(["", "", "extract", "filter"]))
    def run(self, refresh: bool, stops_after: str = "") -> None:
        """A run, which may be broken off after a step of its last partition, and then is repeated as a whole."""
        self.runs_made += 1
        run_id, params = f"run {self.runs_made}", {"full_refresh": True} if refresh else {}
        try:
            partitions = self.runs.plan(**params)
        except AirflowFailException as error:
            if "the source has gone back" not in str(error):
                raise
            return
        if stops_after:
            self.runs.steps(run_id, partitions, *("extract", "filter")[: 1 + (stops_after == "filter")])
        steps = () if stops_after else ("run",)  # in one process, which is quicker
        keys = [partition for partition in partitions if '"keys"' in partition]
        self.runs.steps(run_id, [partition for partition in partitions if partition not in keys], *steps)
        self.bring([Partition.model_validate_json(partition) for partition in partitions])
        self.runs.steps(run_id, keys, *steps)
        if keys or (self.site.pipeline.mode == "replace" and partitions):
            self.remove(self.model.keys() - self.site.source_rows(KEPT).keys() - self.marks)
            self.find([Partition.model_validate_json(partition) for partition in partitions])
        if partitions:
            assert self.runs.reconcile(run_id, partitions)["verdict"] == "adds up"
        assert self.site.sink_rows() == self.model
        assert self.site.pipeline.deletes != "mark" or marked(self.site) == self.marks
        assert self.site.staging_tables() == []

    def bring(self, planned: list[Partition]) -> None:
        """The model after the rows of a run came in."""
        for partition in planned:
            if partition.kind != "rows":
                continue
            low, refresh = partition.window.low, partition.window.refresh
            within = f" AND updated_at > '{low.isoformat()}'" if low else ""
            if self.site.pipeline.version:  # one that is newer may be in the future still
                within += f" AND updated_at <= '{partition.window.high.isoformat()}'"
            for key, row in self.site.source_rows(KEPT + within).items():
                known = self.model.get(key)
                is_newer = known is None or key in self.marks or known[-1] < row[-1]
                is_same = known is not None and known[-1] == row[-1]
                if is_newer or self.site.pipeline.mode == "replace" or (refresh != "newer" and is_same):
                    self.model[key] = row
                    self.marks.discard(key)

    def find(self, planned: list[Partition]) -> None:
        """The model after keys were compared: with the rows that no window reaches."""
        for low in [partition.window.low for partition in planned if partition.kind == "keys"]:
            before = f" AND updated_at <= '{low.isoformat()}'" if low else " AND false"
            for key, row in self.site.source_rows(KEPT + before).items():
                if key not in self.model or self.model[key][-1] != row[-1] or key in self.marks:
                    self.model[key] = row
                    self.marks.discard(key)

    def remove(self, gone: set[Any]) -> None:
        if self.site.pipeline.deletes == "mark":
            self.marks |= gone
        elif self.site.pipeline.deletes == "delete":
            self.model = {key: row for key, row in self.model.items() if key not in gone}


@pytest.fixture
def machine(postgres: Postgres, template: str, sink_url: str, monkeypatch: pytest.MonkeyPatch) -> type[Source]:
    Source.postgres, Source.template, Source.sink_url, Source.patch = postgres, template, sink_url, monkeypatch
    return Source


@pytest.mark.parametrize("mode", list(OF_MODE))
@pytest.mark.parametrize("what", ["keep", "mark", "delete"])
def test_however_rows_come_and_go_the_sink_equals_the_model(machine: type[Source], mode: str, what: str) -> None:
    machine.changes = {**OF_MODE[mode], "deletes": what}
    machine.TestCase.settings = settings(
        max_examples=6, stateful_step_count=12, suppress_health_check=list(HealthCheck), deadline=None
    )
    machine.TestCase().runTest()


@pytest.fixture
def orders_that_go(source_url: str, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    changes = {"deletes": "delete", "most_deleted": 0.1, "steps": "fused"}
    with pipeline_fixture(ORDERS, source_url, sink_url, tmp_path, **changes) as made:
        made.change("DELETE FROM orders WHERE order_id > 1000")
        yield made


@pytest.mark.parametrize("change", ["DELETE FROM orders WHERE order_id > 500", "TRUNCATE orders"])
def test_too_many_rows_go_only_if_the_run_accepts_it(
    orders_that_go: PipelineFixture, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    runs, made = Runs(orders_that_go, monkeypatch), orders_that_go
    runs.run("first")
    before = made.sink_rows()
    made.change("CREATE TABLE again AS SELECT * FROM orders")
    made.change(change)
    with pytest.raises(DataError, match=r" of 400 rows of dbo\..* are gone at the source, .*: nothing was deleted"):
        runs.run("second")
    assert made.sink_rows() == before
    if change == "TRUNCATE orders":  # and loaded again, at the versions it had
        made.change("INSERT INTO orders SELECT * FROM again")
        assert runs.run("third")["deleted"] == 0
        assert made.sink_rows() == before
    else:
        assert runs.run("third", accept_deletes=True)["deleted"] == 200
        assert made.sink_rows() == made.source_rows(KEPT)


@pytest.mark.parametrize("first", ["rows", "keys"])
def test_rows_whose_keys_have_changed_are_no_loss(
    orders_that_go: PipelineFixture, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """All of them, in whichever order the partitions are loaded."""
    runs, made = Runs(orders_that_go, monkeypatch), orders_that_go
    runs.run("first")
    made.change("UPDATE orders SET order_id = order_id + 100000")
    partitions = runs.plan()
    runs.steps("second", partitions if first == "rows" else partitions[::-1])
    totals = runs.reconcile("second", partitions)
    assert (totals["deleted"], totals["inserted"]) == (400, 400)
    assert made.sink_rows() == made.source_rows(KEPT)


def test_rows_that_the_run_itself_has_brought_are_not_lost_with_the_source(
    orders_that_go: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, made = Runs(orders_that_go, monkeypatch), orders_that_go
    runs.run("first")
    made.execute(f"DELETE FROM [dbo].[{made.pipeline.sink.table}]")
    partitions = runs.plan(full_refresh=True)
    runs.steps("second", partitions[:-1])
    made.change("DELETE FROM orders WHERE order_id > 20")
    with pytest.raises(DataError, match=r"fewer by more than most_deleted \(10%\) allows: nothing was deleted"):
        runs.steps("second", partitions[-1:])
    assert len(made.sink_rows()) == 400


def test_rows_that_the_filter_keeps_no_more_are_gone(
    orders_that_go: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, made = Runs(orders_that_go, monkeypatch), orders_that_go
    runs.run("first")
    before = made.sink_rows()
    made.change("UPDATE orders SET status = 'cancelled' WHERE order_id <= 50")
    assert runs.run("second")["deleted"] == sum(key[0] <= 50 for key in before) > 10
    assert made.sink_rows() == made.source_rows(KEPT)


def test_a_row_that_comes_in_while_keys_are_compared_stays(
    orders_that_go: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys were read before another partition brought the row: they do not have it, and the source does."""
    runs, made = Runs(orders_that_go, monkeypatch), orders_that_go
    runs.run("first")
    (keys,) = [partition for partition in runs.plan() if '"keys"' in partition]
    runs.steps("keys", [keys], "extract", "filter")
    made.change("INSERT INTO orders (customer, status, currency, amount) VALUES ('New', 'confirmed', 'EUR', 5)")
    made.change("DELETE FROM orders WHERE order_id = 10")
    runs.run("other")
    after = made.sink_rows()
    assert after == made.source_rows(KEPT)
    runs.steps("keys", [keys], "load")
    assert made.sink_rows() == after


def test_a_row_whose_value_the_filter_cannot_read_stays(
    source_url: str, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"deletes": "delete", "filter": "amount > 1", "tolerated_rejects": 1}
    with pipeline_fixture(ORDERS, source_url, sink_url, tmp_path, **changes) as made:
        made.change("DELETE FROM orders WHERE order_id > 20; ALTER TABLE orders ALTER amount TYPE numeric")
        runs = Runs(made, monkeypatch)
        runs.run("first")
        before = made.sink_rows()
        made.change("UPDATE orders SET amount = 'NaN' WHERE order_id = 10; DELETE FROM orders WHERE order_id = 11")
        totals = runs.run("second")
        assert (totals["rejected"], totals["deleted"]) == (1, 1)
        assert made.sink_rows().keys() == before.keys() - {(11,)}


def test_keys_are_compared_as_often_as_the_pipeline_says(
    source_url: str, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"deletes": "delete", "deletes_every": timedelta(hours=6)}
    with pipeline_fixture(ORDERS, source_url, sink_url, tmp_path, **changes) as made:
        made.change("DELETE FROM orders WHERE order_id > 20")
        runs = Runs(made, monkeypatch)
        compared = [any('"keys"' in each for each in plan_and_run(runs, str(number))) for number in range(3)]
        assert compared == [False, True, False]  # the sink is empty, then never compared, then just now
        assert any('"keys"' in each for each in runs.plan(full_refresh=True))
        made.execute(f"UPDATE [etl].[audit] SET [loaded_at] = N'2026-01-01' WHERE [pipeline] = N'{made.pipeline.name}'")
        assert any('"keys"' in each for each in runs.plan())


def plan_and_run(runs: Runs, run_id: str) -> list[str]:
    partitions = runs.plan()
    runs.steps(run_id, partitions)
    if partitions:
        runs.reconcile(run_id, partitions)
    return partitions


def test_rows_that_no_window_reaches_arrive_when_keys_are_compared(
    orders_that_go: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inserted with an old version, and a key that was assigned anew at a lower one; too many are refused."""
    runs, made = Runs(orders_that_go, monkeypatch), orders_that_go
    runs.run("first")
    made.change("ALTER TABLE orders DISABLE TRIGGER USER")
    made.change("UPDATE orders SET customer = 'Anew', updated_at = '2020-01-01' WHERE order_id = 10")
    made.change(
        "INSERT INTO orders (order_id, customer, status, currency, amount, updated_at)"
        " SELECT 5000 + n, 'Old', 'confirmed', 'EUR', 5, '2021-01-01' FROM generate_series(1, 20) AS n"
    )
    monkeypatch.setattr(missing, "MOST", 20)
    before = made.sink_rows()
    with pytest.raises(DataError, match=r"more than 20 rows of public\.orders are not in .*; run with full_refresh"):
        runs.run("second")
    assert made.sink_rows() == before
    monkeypatch.setattr(missing, "MOST", 21)
    monkeypatch.setattr(missing, "_READ_AT_ONCE", 8)
    totals = runs.run("third")
    assert (totals["inserted"], totals["updated"], totals["verdict"]) == (20, 1, "adds up")
    assert made.sink_rows() == made.source_rows(KEPT)
    assert runs.run("fourth")["inserted"] == 0


def test_a_row_that_no_window_reaches_is_refused_by_name_if_it_cannot_be_carried(
    orders_that_go: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, made = Runs(orders_that_go, monkeypatch), orders_that_go
    runs.run("first")
    made.change("ALTER TABLE orders DISABLE TRIGGER USER")
    made.change(
        "INSERT INTO orders (order_id, customer, status, currency, amount, created_at, updated_at)"
        " VALUES (5000, 'Old', 'confirmed', 'EUR', 5, 'infinity', '2021-01-01')"
    )
    before = made.sink_rows()
    with pytest.raises(DataError, match=r"1 rows break the type rules.* The first is order_id=5000: created_at"):
        runs.run("second")
    assert made.sink_rows() == before


def test_values_out_of_range_of_rows_that_no_window_reaches_are_counted(
    source_url: str, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"deletes": "delete", "beyond": {"created_at": "edge"}}
    with pipeline_fixture(ORDERS, source_url, sink_url, tmp_path, **changes) as made:
        made.change("DELETE FROM orders WHERE order_id > 20")
        runs = Runs(made, monkeypatch)
        assert runs.run("first")["adjusted"] == 0
        made.change("ALTER TABLE orders DISABLE TRIGGER USER")
        made.change(
            "INSERT INTO orders (order_id, customer, status, currency, amount, created_at, updated_at)"
            " SELECT 5000 + n, 'Old', 'confirmed', 'EUR', 5, CASE WHEN n < 3 THEN 'infinity'::timestamptz ELSE now()"
            " END, '2021-01-01' FROM generate_series(1, 5) AS n"
        )
        made.change("UPDATE orders SET created_at = 'infinity', updated_at = clock_timestamp() WHERE order_id = 10")
        totals = runs.run("second")
        assert (totals["inserted"], totals["updated"], totals["adjusted"]) == (5, 1, 3)
        assert [audit["adjusted"] for audit in made.audits()] == [0, 1, 2]


def test_versions_after_a_gap_that_a_run_leaves_are_not_brought_by_a_comparison(
    orders_that_go: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions between the watermark and `since` are for the next run; the comparison waits for them, too."""
    runs = Runs(orders_that_go, monkeypatch)
    runs.run("first")
    since = datetime.now(UTC).isoformat()
    assert [partition for partition in runs.plan() if '"keys"' in partition]
    assert not [partition for partition in runs.plan(since=since) if '"keys"' in partition]


def test_rows_that_no_window_reaches_arrive_where_versions_are_numbers(
    source_url: str, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = {
        "name": "numbers", "source": "public.numbers", "sink": "dbo.numbers", "key": ["id"], "version": "n",
        "columns": {"id": "integer", "n": "bigint"}, "filter": "true", "deletes": "delete", "look_back": 5,
    }  # fmt: skip
    with pipeline_fixture(definition, source_url, sink_url, tmp_path) as made:
        made.change("CREATE TABLE numbers (id integer PRIMARY KEY, n bigint NOT NULL)")
        made.change("INSERT INTO numbers SELECT g, g FROM generate_series(1, 100) AS g")
        runs = Runs(made, monkeypatch)
        runs.run("first")
        made.change("DELETE FROM numbers WHERE id <= 10")
        made.change("INSERT INTO numbers VALUES (200, 3), (201, 101)")
        totals = runs.run("second")
        assert (totals["deleted"], totals["inserted"], totals["verdict"]) == (10, 2, "adds up")
        assert made.sink_rows() == made.source_rows()


def test_wherever_a_comparison_is_cut_the_sink_is_as_before_or_as_after(
    orders_that_go: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It deletes rows, brings others, and writes its audit row, or none of that; also where the commit is lost."""
    runs, made = Runs(orders_that_go, monkeypatch), orders_that_go
    runs.run("first")
    before = made.sink_rows()
    made.change("ALTER TABLE orders DISABLE TRIGGER USER")
    made.change("DELETE FROM orders WHERE order_id <= 50")
    made.change("UPDATE orders SET amount = amount + 1, updated_at = '2020-01-01' WHERE order_id BETWEEN 60 AND 90")
    (keys,) = [partition for partition in runs.plan() if '"keys"' in partition]
    runs.steps("second", [keys], "extract", "filter")
    after = made.source_rows(KEPT)
    left, cut_at = count_statements(monkeypatch), 0
    while True:
        cut_at += 1
        left[:] = [cut_at]
        try:
            runs.steps("second", [keys], "load")
        except CutError:
            assert made.sink_rows() in (before, after)
        else:
            break
    assert cut_at > 25
    assert made.sink_rows() == after
    made.change("DELETE FROM orders WHERE order_id <= 100")
    for moment, rows in {"before": after, "after": made.source_rows(KEPT)}.items():
        (keys,) = [partition for partition in runs.plan() if '"keys"' in partition]
        with monkeypatch.context() as patched:
            cut_commit(patched, moment)
            with pytest.raises(CutError):
                runs.steps(moment, [keys])
        assert made.sink_rows() == rows
