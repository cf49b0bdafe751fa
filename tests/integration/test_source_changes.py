"""Changes at the source between two runs: its tables, its clock, its settings; a restore to an earlier time."""

import logging
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from etl.errors import ConfigurationError

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.postgres import Postgres
from tests.harness.runs import Runs


@pytest.fixture
def runs(orders: PipelineFixture, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """The orders, of which all have been moved once."""
    made = Runs(orders, monkeypatch)
    made.run("first")
    return made


def confirm(made: PipelineFixture, orders: str = "order_id <= 20") -> None:
    made.change(f"UPDATE orders SET status = 'confirmed', amount = amount + 1 WHERE {orders}")


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE orders ADD COLUMN channel text NOT NULL DEFAULT 'web'",
        "ALTER TABLE orders ALTER customer TYPE text",
        "ALTER TABLE orders ALTER amount TYPE numeric",
        "ALTER TABLE orders ALTER order_id TYPE integer",
        "ALTER TABLE orders RENAME CONSTRAINT orders_pkey TO orders_key",
        "DROP INDEX orders_updated_at",
        "ALTER TABLE orders ADD COLUMN more text; ALTER TABLE orders DROP COLUMN more",
    ],
)
def test_a_change_that_the_pipeline_can_carry_changes_nothing(runs: Runs, statement: str) -> None:
    runs.made.change(statement)
    confirm(runs.made)
    assert runs.run("second")["verdict"] == "adds up"
    assert runs.made.sink_rows() == runs.made.source_rows("status = 'confirmed'")


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("ALTER TABLE orders DROP COLUMN amount", "public.orders has no column amount"),
        ("ALTER TABLE orders RENAME COLUMN note TO remark", "public.orders has no column note"),
        ("ALTER TABLE orders ALTER amount TYPE double precision", "amount of public.orders is double precision"),
        ("ALTER TABLE orders ALTER updated_at TYPE timestamp", "updated_at of public.orders is timestamp without"),
        ("ALTER TABLE orders ALTER updated_at DROP NOT NULL", "column updated_at of public.orders may be null"),
        ("ALTER TABLE orders DROP CONSTRAINT orders_pkey", "no unique index of public.orders covers order_id"),
        ("CREATE TABLE old () INHERITS (orders)", "public.old inherits from public.orders"),
        ("ALTER TABLE orders RENAME TO sales", "there is no table public.orders"),
        ("ALTER TABLE orders RENAME COLUMN updated_at TO changed_at", "public.orders has no column updated_at"),
        ("ALTER TABLE orders RENAME COLUMN order_id TO id", "public.orders has no column order_id"),
        (
            "DROP TRIGGER orders_touch_updated_at ON orders; ALTER TABLE orders ALTER updated_at DROP DEFAULT,"
            " ALTER updated_at TYPE text",
            "updated_at of public.orders is text",
        ),
    ],
)
def test_a_change_that_it_cannot_carry_is_told_by_plan_and_extract_and_moves_nothing(
    runs: Runs, statement: str, told: str
) -> None:
    before, rows = runs.watermark(), runs.made.sink_rows()
    confirm(runs.made)
    partitions = runs.plan()
    runs.made.change(statement)
    with pytest.raises(AirflowFailException, match=told):
        runs.plan()
    with pytest.raises(ConfigurationError, match=told):
        runs.steps("second", partitions)
    assert (runs.watermark(), runs.made.sink_rows()) == (before, rows)


def test_a_version_that_is_null_in_all_rows_is_no_run_without_changes(
    orders: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders.change("ALTER TABLE orders DISABLE TRIGGER USER, ALTER updated_at DROP NOT NULL")
    orders.change("UPDATE orders SET updated_at = NULL")
    with pytest.raises(AirflowFailException, match=r"column updated_at of public\.orders may be null"):
        Runs(orders, monkeypatch).plan()


def test_a_change_in_the_middle_of_a_run_is_told_or_comes_too_late_to_matter(runs: Runs) -> None:
    confirm(runs.made)
    expected = runs.made.source_rows("status = 'confirmed'")
    partitions = runs.plan()
    runs.steps("second", partitions, "extract")
    runs.made.change("ALTER TABLE orders RENAME COLUMN amount TO price")
    runs.steps("second", partitions, "filter", "load")
    assert runs.reconcile("second", partitions)["verdict"] == "adds up"
    assert runs.made.sink_rows() == expected
    with pytest.raises(ConfigurationError, match="has no column amount"):
        runs.steps("second", partitions, "extract")


@pytest.fixture
def restored(runs: Runs, postgres: Postgres, template: str) -> Runs:
    """A run later, the source is put back to what it was before, and goes on from there."""
    confirm(runs.made)
    runs.made.change("INSERT INTO orders (customer, status, currency, amount) VALUES ('Lost', 'confirmed', 'EUR', 1)")
    runs.run("second")
    name = runs.made.source_url.rpartition("/")[2]
    postgres.drop_database(name)
    postgres.create_database(name, template=template)
    # The number of the lost order is given out again.
    runs.made.change("INSERT INTO orders (customer, status, currency, amount) VALUES ('Other', 'confirmed', 'EUR', 2)")
    return runs


@pytest.mark.parametrize("params", [{}, {"full_refresh": True}, {"since": "2026-01-01T00:00:00Z"}])
def test_a_source_put_back_in_time_is_told_and_overwrites_nothing(restored: Runs, params: dict[str, Any]) -> None:
    before, rows = restored.watermark(), restored.made.sink_rows()
    with pytest.raises(AirflowFailException) as caught:
        restored.run("third", **params)
    assert "the source has gone back: of the newest 100 rows of dbo." in str(caught.value)
    assert " 20 are older at the source and 0 gone (order_id=" in str(caught.value)
    assert "run with full_refresh and accept_older_versions" in str(caught.value)
    assert (restored.watermark(), restored.made.sink_rows()) == (before, rows)
    assert rows[(4001,)][1] == "Lost"


def test_what_the_documentation_says_to_do_then_makes_source_and_sink_equal(restored: Runs) -> None:
    operations = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    section = operations.partition("## A source that was restored from a backup")[2].partition("\n## ")[0]
    statement = section.partition("```sql\n")[2].partition("```")[0]
    assert "DELETE FROM [dbo].[orders]" in statement
    ours = statement.replace("[orders]", f"[{restored.made.pipeline.name}]").replace("TIME", "2026-01-31T00:00:00")
    restored.made.execute(ours)
    assert restored.run("after", full_refresh=True)["verdict"] == "adds up"
    assert restored.made.sink_rows() == restored.made.source_rows("status = 'confirmed'")
    confirm(restored.made, "order_id BETWEEN 100 AND 120")
    assert restored.run("next")["updated"] > 0
    assert restored.made.sink_rows() == restored.made.source_rows("status = 'confirmed'")


@pytest.mark.parametrize("params", [{"full_refresh": True}, {"since": "2026-01-01T00:00:00Z"}])
def test_a_person_may_have_the_rows_of_the_source_win_whatever_their_versions(
    restored: Runs, caplog: pytest.LogCaptureFixture, params: dict[str, Any]
) -> None:
    """But those that the source has lost stay, and those whose new state the filter drops."""
    assert restored.run("third", accept_older_versions=True, **params)["verdict"] == "adds up"
    assert "As accept_older_versions says, they are taken as they are." in caplog.text
    rows, expected = restored.made.sink_rows(), restored.made.source_rows("status = 'confirmed'")
    assert {key: row for key, row in rows.items() if key in expected} == expected
    confirm(restored.made, "order_id BETWEEN 100 AND 120")
    assert restored.run("fourth")["verdict"] == "adds up"


@pytest.mark.parametrize("params", [{}, {"full_refresh": True}, {"since": "2026-01-01T00:00:00Z"}])
def test_a_row_whose_clock_was_put_back_is_told_and_the_run_goes_on(
    runs: Runs, caplog: pytest.LogCaptureFixture, params: dict[str, Any]
) -> None:
    confirm(runs.made, "order_id = 3998")
    runs.run("second")
    runs.made.change("ALTER TABLE orders DISABLE TRIGGER USER")
    runs.made.change("UPDATE orders SET updated_at = updated_at - interval '3 seconds' WHERE order_id = 3998")
    runs.made.change("ALTER TABLE orders ENABLE TRIGGER USER")
    confirm(runs.made)
    assert runs.run("third", **params)["verdict"] == "adds up"
    assert "1 are older at the source and 0 gone (order_id=3998: " in caplog.text
    assert "run with full_refresh and accept_older_versions" in caplog.text


def test_deleted_rows_are_no_sign_of_it(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    runs.made.change("DELETE FROM orders WHERE order_id > 3990")
    confirm(runs.made)
    assert runs.run("second")["verdict"] == "adds up"
    assert "at the source any more" not in caplog.text


def test_that_all_newest_rows_are_gone_is_said(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    runs.made.change("DELETE FROM orders WHERE order_id > 2000")
    confirm(runs.made)
    with caplog.at_level(logging.WARNING):
        assert runs.run("second")["verdict"] == "adds up"
    assert "None of the newest 100 rows of dbo." in caplog.text


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("smallint", "-7"),
        ("integer", "7"),
        ("bigint", "9007199254740993"),
        ("numeric(20,5)", "-12345678901234.50000"),
        ("varchar(40)", "it's \\ 漢🚚"),
        ("char(5)", "ab"),
        ("uuid", "0a1b2c3d-0000-0000-0000-00000000000a"),
        ("date", "0001-12-31"),
        ("time", "23:59:59.999999"),
        ("boolean", "true"),
        ("real", "-0.1"),
        ("double precision", "5e-324"),
        ("name", "it's"),
        ('"char"', "\\377"),
        ("bit(3)", "101"),
        ("oid", "4294967295"),
        ("inet", "10.0.0.1"),
        ("cidr", "10.0.0.0/8"),
        ("macaddr", "08:00:2b:01:02:03"),
        ("timetz", "24:00:00+15:59:59"),
        ("pg_lsn", "16/B374D848"),
        ("varchar(63)", "O'K"),
        ("timestamp", "2026-10-25 02:30:00.000001"),
        ("timestamptz", "2026-10-25 02:30:00+02"),
    ],
)
def test_it_is_noticed_whatever_the_type_of_the_key(
    empty: str,
    sink_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    declared: str,
    value: str,
) -> None:
    version = "timestamp" if declared == "timestamptz" else "timestamptz"
    definition: dict[str, Any] = {
        "name": "keys", "source": "public.t", "columns": {"n": "integer", "k": declared, "at": version},
        "key": ["n", "k"], "version": "at", "filter": "true",
    }  # fmt: skip
    with pipeline_fixture(definition, empty, sink_url, tmp_path) as made:
        made.change("CREATE TYPE mood AS ENUM ('O''K')")
        kind = "mood" if value == "O'K" else declared
        made.change(f"CREATE TABLE t (n integer, k {kind}, at {version} NOT NULL, PRIMARY KEY (n, k))")
        made.change("INSERT INTO t VALUES (1, %s, '2026-01-02'), (2, %s, '2026-01-01')", value, value)
        runs = Runs(made, monkeypatch)
        runs.run("first")
        assert runs.run("second", full_refresh=True)["unchanged"] == 2
        assert "at the source any more" not in caplog.text
        made.change("UPDATE t SET at = at - interval '1 microsecond' WHERE n = 1")
        runs.plan()
        assert re.search(r"versions have gone back: .* 1 are older at the source and 0 gone \(n=1, k=", caplog.text)
        made.change("UPDATE t SET at = at - interval '1 hour'")
        with pytest.raises(AirflowFailException, match=r"gone back: .* 2 are older at the source and 0 gone \(n=1, k="):
            runs.plan()


SETTINGS = {
    "timezone": "Europe/Berlin", "datestyle": "SQL, DMY", "bytea_output": "escape", "search_path": "pg_catalog",
    "standard_conforming_strings": "off", "extra_float_digits": "-15", "client_encoding": "LATIN1",
    "intervalstyle": "sql_standard", "default_transaction_isolation": "serializable",
}  # fmt: skip


def test_neither_settings_of_the_source_nor_an_hour_that_comes_twice_change_anything(
    orders: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Berlin 02:30 comes twice on the 26th of October 2025; two orders there are an hour apart."""
    orders.change("ALTER TABLE orders DISABLE TRIGGER USER")
    orders.change("UPDATE orders SET updated_at = '2025-10-25 00:30:00.000001+00' WHERE order_id = 2")
    orders.change("UPDATE orders SET updated_at = '2025-10-26 00:30:00.000001+00' WHERE order_id = 10")
    orders.change(
        "UPDATE orders SET updated_at = '2025-10-26 01:30:00.000001+00', note = %s WHERE order_id = 20", "\\'"
    )
    for name, value in SETTINGS.items():
        orders.change(f"ALTER DATABASE {orders.source_url.rpartition('/')[2]} SET {name} = '{value}'")
    made = Runs(orders, monkeypatch)
    assert made.run("first", until="2025-10-26T02:00:00+01:00")["inserted"] == 2
    assert made.run("second", until="2025-10-26T03:00:00+01:00")["inserted"] == 1
    assert made.watermark().isoformat() == "2025-10-26T02:00:00"
    assert made.run("third")["inserted"] == 1597
    assert orders.sink_rows() == orders.source_rows("status = 'confirmed'")


@pytest.mark.parametrize("params", [{}, {"full_refresh": True}])
def test_a_row_at_minus_infinity_that_the_filter_drops_disturbs_no_run(
    orders: PipelineFixture, monkeypatch: pytest.MonkeyPatch, params: dict[str, Any]
) -> None:
    orders.change("ALTER TABLE orders DISABLE TRIGGER USER")
    orders.change("UPDATE orders SET updated_at = '-infinity', status = 'pending' WHERE order_id = 2")
    orders.change("ALTER TABLE orders ENABLE TRIGGER USER")
    made = Runs(orders, monkeypatch)
    for run_id in ("first", "second"):
        totals = made.run(run_id, **params)
        assert (totals["verdict"], totals["rejected"]) == ("adds up", 0)
        confirm(orders, "order_id = 10")
    made.run("third")
    assert orders.sink_rows() == orders.source_rows("status = 'confirmed'")


def test_a_source_whose_clock_is_put_back_behind_the_watermark_is_told(runs: Runs) -> None:
    ahead = runs.watermark() + timedelta(hours=1)
    runs.made.execute(
        f"UPDATE [etl].[watermark] SET [value] = '{ahead.isoformat()}' WHERE [pipeline] = '{runs.made.pipeline.name}'"
    )
    with pytest.raises(AirflowFailException, match="The window is empty: the watermark less the look-back"):
        runs.plan()


def test_a_watermark_that_is_ahead_is_deleted_as_the_documentation_says(runs: Runs) -> None:
    """A day in a zone east of UTC is, where the version becomes a time."""
    ahead, name = runs.watermark() + timedelta(hours=5), runs.made.pipeline.name
    runs.made.execute(f"UPDATE [etl].[watermark] SET [value] = '{ahead.isoformat()}' WHERE [pipeline] = '{name}'")
    runs.run("refreshed", full_refresh=True)
    assert runs.watermark() == ahead
    operations = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    statement = operations.partition("first delete the watermark")[2].partition("```sql\n")[2].partition("```")[0]
    assert "N'orders'" in statement
    runs.made.execute(statement.replace("N'orders'", f"N'{name}'"))
    runs.run("second")
    assert runs.watermark() < ahead
    confirm(runs.made)
    assert runs.run("third")["verdict"] == "adds up"
    assert runs.made.sink_rows() == runs.made.source_rows("status = 'confirmed'")
