"""Whatever is wrong ends in one clear sentence, a proper exit code, and an unchanged sink."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from etl.errors import ExitCode

from dev.sandbox.pipeline_fixture import PipelineFixture, as_json, existing_fixture, pipeline_fixture
from dev.sandbox.pipelines import ORDERS
from dev.sandbox.process import free_port

CONFIGURATION, DATA, TRY_AGAIN = ExitCode.CONFIGURATION, ExitCode.DATA, ExitCode.TRY_AGAIN


def refused(made: PipelineFixture, step: str, exit_code: int, *told: str, **environment: str) -> None:
    """The step, run as a command, fails with one line of this text, and shows no secret."""
    completed = made.cli(step, **environment)
    assert completed.returncode == exit_code, completed.stderr
    lines = as_json(completed)
    errors = [line for line in lines if line["level"] == "error"]
    assert len(errors) == 1, completed.stderr
    for words in told:
        assert words in errors[0]["event"]
    assert (errors[0]["pipeline"], errors[0]["run_id"], errors[0]["partition"]) == (made.pipeline.name, "run", "all")
    assert "Traceback" not in completed.stderr
    for url in (made.source_url, made.sink_url, *environment.values()):
        password = urlsplit(url).password
        assert password is None or password not in completed.stderr + completed.stdout


@contextmanager
def unchanged(made: PipelineFixture) -> Iterator[None]:
    """The sink is the same afterwards."""
    made.run("before")
    rows, audits = made.sink_rows(), made.audits()
    yield
    assert (made.sink_rows(), made.audits()) == (rows, audits)
    assert made.staging_tables() == []


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (
            "ALTER TABLE orders DROP CONSTRAINT orders_amount_check, ALTER amount TYPE text",
            "column amount of public.orders is text",
        ),
        ("DROP TABLE orders", "there is no table public.orders"),
    ],
)
def test_a_source_that_is_not_as_the_pipeline_says(orders: PipelineFixture, statement: str, told: str) -> None:
    with unchanged(orders):
        orders.change(statement)
        refused(orders, "run", CONFIGURATION, told)


@pytest.mark.parametrize("side", ["SOURCE", "SINK"])
def test_a_bad_password(orders: PipelineFixture, side: str) -> None:
    with unchanged(orders):
        refused(orders, "run", CONFIGURATION, "ailed", **{f"{side}_PASSWORD": "wrong-and-secret"})


@pytest.mark.parametrize("side", ["SOURCE", "SINK"])
def test_an_unreachable_database_may_be_tried_again(orders: PipelineFixture, side: str) -> None:
    url = {"SOURCE": orders.source_url, "SINK": orders.sink_url}[side]
    nowhere = url.replace(f":{urlsplit(url).port}/", f":{free_port()}/")
    with unchanged(orders):
        refused(orders, "run", TRY_AGAIN, "orders", **{f"{side}_URL": nowhere})


def test_a_source_database_that_does_not_exist(orders: PipelineFixture) -> None:
    with unchanged(orders):
        url = f"{orders.source_url.rpartition('/')[0]}/nowhere"
        refused(orders, "run", CONFIGURATION, "nowhere", SOURCE_URL=url)


def test_a_sink_database_that_does_not_exist(orders: PipelineFixture) -> None:
    with unchanged(orders):
        url = f"{orders.sink_url.rpartition('/')[0]}/nowhere"
        refused(orders, "run", CONFIGURATION, "There is no database nowhere", "run `etl prepare-sink`", SINK_URL=url)


def test_a_sink_table_of_other_columns(orders: PipelineFixture) -> None:
    name = orders.pipeline.name
    orders.execute(f"CREATE TABLE [dbo].[{name}] ([order_id] bigint NOT NULL, [customer] nvarchar(50) NOT NULL)")
    told = ("has customer as nvarchar(50), nvarchar(100) is needed", "ALTER TABLE", "DROP TABLE")
    refused(orders, "run", CONFIGURATION, *told)


def test_a_step_before_its_predecessor_may_be_tried_again(orders: PipelineFixture) -> None:
    refused(orders, "load", TRY_AGAIN, "run `etl filter` first")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[str]:
    """A staging folder on a file system of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    yield f"file://{folder}"
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_may_be_tried_again(orders: PipelineFixture, small_disk: str) -> None:
    with unchanged(orders):
        orders.change("UPDATE orders SET note = repeat(md5(random()::text), 100)")
        refused(orders, "extract", TRY_AGAIN, "No space left on device", STAGING_URL=small_disk)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"filter": "status = "}, "pipeline: filter: 'status = ' is not a SQL expression"),
        ({"filter": "state = 'confirmed'"}, "filter: unknown column state"),
        ({"filter": "amount = 'abc'"}, "filter: 'amount = 'abc'': a number is written without quotes"),
        ({"colour": "red"}, "pipeline.colour: Extra inputs are not permitted"),
        ({"columns": {"order_id": "mood"}}, "pipeline.columns: column order_id: 'mood' is none of the types"),
    ],
)
def test_a_pipeline_that_makes_no_sense(
    orders: PipelineFixture, changes: dict[str, Any], told: str, tmp_path: Path
) -> None:
    import json

    file = tmp_path / "pipeline.json"
    file.write_text(json.dumps({**ORDERS, **changes}))
    command = orders.command("run")
    command[command.index("--pipeline") + 1] = str(file)
    completed = subprocess.run(command, env=orders.environment(), capture_output=True, text=True, check=False)
    assert completed.returncode == CONFIGURATION
    assert told in as_json(completed)[0]["event"]


def test_a_metrics_server_that_is_away_holds_nothing_up(orders: PipelineFixture) -> None:
    completed = orders.cli("run", STATSD_HOST="nowhere.invalid")
    assert completed.returncode == 0
    assert "No metrics are sent: STATSD_HOST (nowhere.invalid)" in completed.stderr
    assert orders.sink_rows() == orders.source_rows("status = 'confirmed'")


def test_a_sink_whose_key_does_not_tell_case_is_refused(orders: PipelineFixture) -> None:
    columns = ", ".join(
        f"[{name}] {column.tsql} {'NULL' if column.nullable else 'NOT NULL'}"
        for name, column in orders.pipeline.types.items()
    )
    orders.execute(f"CREATE TABLE [dbo].[{orders.pipeline.name}] ({columns}, PRIMARY KEY ([customer]))")
    by_customer = existing_fixture(
        orders.pipeline.model_copy(update={"key": ["customer"]}), orders.source_url, orders.sink_url
    )
    by_customer.change("DELETE FROM orders WHERE order_id > 5; CREATE UNIQUE INDEX ON orders (customer)")
    environment = {"STAGING_URL": orders.settings.staging_url}
    refused(by_customer, "run", CONFIGURATION, "has customer with the collation", **environment)


def test_an_unknown_option_is_a_usage_error(orders: PipelineFixture) -> None:
    command = [*orders.command("run"), "--colour", "red"]
    completed = subprocess.run(command, env=orders.environment(), capture_output=True, text=True, check=False)
    assert completed.returncode == ExitCode.USAGE
    assert "--colour" in completed.stderr


def test_rejects_above_the_tolerance_load_nothing_and_name_key_and_column(orders: PipelineFixture) -> None:
    orders.change("ALTER TABLE orders ALTER amount TYPE numeric")
    with unchanged(orders):
        orders.change("UPDATE orders SET amount = 1.005 WHERE order_id IN (10, 20)")
        words = ("2 rows break the type rules, 0 are tolerated", "order_id=10: amount is not exactly")
        refused(orders, "run", DATA, *words)


@pytest.mark.parametrize("step", ["extract", "run"])
def test_a_row_that_memory_does_not_hold_is_refused_by_key_and_column(orders: PipelineFixture, step: str) -> None:
    """The limit is on all texts, documents and bytea of a row together."""
    others = "octet_length(customer) + octet_length(status) + octet_length(currency)"
    orders.change(f"UPDATE orders SET note = repeat('a', 100000 - ({others})) WHERE order_id = 10")
    completed = orders.cli(step, LONGEST_ROW="100000")
    assert completed.returncode == 0, completed.stderr
    with unchanged(orders):
        orders.change("UPDATE orders SET note = note || 'ä' WHERE order_id = 10")
        told = f"{orders.pipeline.name}, partition all: order_id=10: note has 99"
        refused(orders, step, DATA, told, "this step carries 100000 bytes a row", LONGEST_ROW="100000")


def test_of_a_long_document_the_text_counts(source_url: str, sink_url: str, tmp_path: Path) -> None:
    definition = {**ORDERS, "columns": {**ORDERS["columns"], "doc": "jsonb null"}}
    with pipeline_fixture(definition, source_url, sink_url, tmp_path) as made:
        made.change("ALTER TABLE orders ADD doc jsonb")
        made.change("UPDATE orders SET doc = jsonb_build_array(1e5000) WHERE order_id = 10")
        refused(made, "run", DATA, "order_id=10: doc has 5003 bytes", LONGEST_ROW="5000")


def test_of_a_long_value_that_is_rejected_the_beginning_is_set_aside(
    source_url: str, sink_url: str, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    definition = {**ORDERS, "columns": {**ORDERS["columns"], "raw": "bytea null"}}
    with pipeline_fixture(definition, source_url, sink_url, tmp_path, tolerated_rejects=1) as made:
        made.change("ALTER TABLE orders ADD raw bytea; ALTER TABLE orders ALTER customer DROP NOT NULL")
        long = "note = repeat('ä', 1000001), raw = convert_to(repeat('a', 2000000), 'UTF8')"
        made.change(f"UPDATE orders SET customer = NULL, status = 'confirmed', {long} WHERE order_id = 10")
        given = made.run()
        with made.work().staging.reading(given["filter"].files["rejects"]) as file:
            (row,) = pq.read_table(file)["row"].to_pylist()
    assert row["note"] == "ä" * 1_000_000 + "… (2000002 bytes)"
    assert row["raw"] == "a" * 1_000_000 + "… (2000000 bytes)"


def test_a_row_that_is_too_long_is_named_also_by_a_key_that_python_does_not_have(
    source_url: str, sink_url: str, tmp_path: Path
) -> None:
    columns = {"day": "date", "note": "text", "at": "timestamptz"}
    changes = {"source": "public.days", "columns": columns, "key": ["day"], "version": "at", "filter": "true"}
    with pipeline_fixture(ORDERS, source_url, sink_url, tmp_path, **changes) as made:
        made.change("CREATE TABLE days (day date PRIMARY KEY, note text NOT NULL, at timestamptz NOT NULL)")
        made.change("INSERT INTO days VALUES ('infinity', repeat('x', 99), now())")
        told = "day=infinite or outside the years 1 to 9999: note has 99 bytes"
        refused(made, "run", DATA, told, LONGEST_ROW="50")


def test_rejects_within_the_tolerance_are_set_aside_and_counted(source_url: str, sink_url: str, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    with pipeline_fixture(ORDERS, source_url, sink_url, tmp_path, tolerated_rejects=2) as made:
        made.change("ALTER TABLE orders ALTER amount TYPE numeric; ALTER TABLE orders ALTER customer DROP NOT NULL")
        made.change("UPDATE orders SET amount = 'NaN' WHERE order_id = 10")
        made.change("UPDATE orders SET customer = NULL WHERE order_id = 20")
        made.change("UPDATE orders SET customer = NULL WHERE order_id = 1 AND status = 'pending'")
        given = made.run()
        (audit,) = made.audits()
        assert (audit["extracted"], audit["kept"], audit["dropped"], audit["rejected"]) == (4000, 1598, 2400, 2)
        with made.work().staging.reading(given["filter"].files["rejects"]) as file:
            rejects = {entry["row"]["order_id"]: entry for entry in pq.read_table(file).to_pylist()}
        assert {key: entry["reason"] for key, entry in rejects.items()} == {
            "10": "amount is not exactly a decimal(12,2)",
            "20": "customer is null but required",
        }
        assert rejects["10"]["row"]["amount"].lower() == "nan"
        assert set(made.sink_rows()) == set(made.source_rows("status = 'confirmed' AND order_id NOT IN (10, 20)"))
