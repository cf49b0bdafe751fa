"""The real DAG in the real Airflow: what it leaves in the sink, and what it does when something does not add up."""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mssql_python
import psycopg
import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException
from etl.model.window import Partition, Window
from etl.sqlserver import ledger
from etl.sqlserver import sql as sink_sql
from etl_airflow.dag.hooks import SinkHook
from etl_airflow.dag.reconcile import advance_watermark, reconcile_run
from etl_airflow.secrets_backend import UrlConnections
from orders_etl import ORDERS

from dev.sandbox.pipeline_fixture import MARK, PipelineFixture, existing_fixture
from dev.sandbox.postgres import Postgres
from dev.sandbox.stack import INIT_SQL, ROOT, Stack, airflow_environment

pytestmark = pytest.mark.usefixtures("first_run")
TASKS = ("partition.extract", "partition.filter", "partition.load")


@pytest.fixture(scope="module")
def stack(postgres: Postgres, sink_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Airflow on databases of the module's own."""
    folder = tmp_path_factory.mktemp("stack")
    suffix = f"{os.getpid()}"
    source_url = postgres.create_database(f"dag_orders_{suffix}", INIT_SQL)
    metadata_url = postgres.create_database(f"dag_airflow_{suffix}")
    environment = airflow_environment(folder, metadata_url, source_url, sink_url)
    made = Stack(source_url, sink_url, True, environment, folder / "log")
    made.run("airflow", "db", "migrate", quiet=True)
    yield made
    for name in ("dag_orders", "dag_airflow"):
        postgres.drop_database(f"{name}_{suffix}")


@pytest.fixture(scope="module")
def real(stack: Stack) -> Iterator[PipelineFixture]:
    """The real pipeline, under its real name."""
    made = existing_fixture(ORDERS, stack.source_url, stack.sink_url, Path(stack.environment["STAGING_URL"][7:]))
    made.claim()
    yield made
    made.clean()


@pytest.fixture(scope="module")
def first_run(stack: Stack, real: PipelineFixture) -> dict[str, Any]:
    return stack.run_dag("orders_etl")


@pytest.fixture
def airflow_sink(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AIRFLOW_CONN_SINK", airflow_connection(stack, monkeypatch, "sink"))
    return "sink"


def airflow_connection(stack: Stack, monkeypatch: pytest.MonkeyPatch, name: str) -> str:
    """A connection of the stack as Airflow's environment has it."""
    monkeypatch.setenv(f"{name.upper()}_URL", stack.environment[f"{name.upper()}_URL"])
    return UrlConnections().get_conn_value(name) or ""


def watermark(made: PipelineFixture) -> Any:
    query = f"SELECT [value] FROM [etl].[watermark] WHERE [pipeline] = '{made.pipeline.name}'"
    return made.query(query)[0][0]


def test_a_run_brings_the_confirmed_orders_and_moves_the_watermark(
    first_run: dict[str, Any], real: PipelineFixture
) -> None:
    assert first_run["state"] == "success"
    assert set(first_run["tasks"].values()) == {"success"}
    assert real.sink_rows() == real.source_rows("status = 'confirmed'")
    (newest,) = real.query("SELECT MAX([updated_at]) FROM [dbo].[orders]")
    assert watermark(real) > newest[0]


def test_the_next_run_carries_only_what_changed(first_run: dict[str, Any], stack: Stack, real: PipelineFixture) -> None:
    assert first_run["state"] == "success"
    before, before_watermark = real.sink_rows(), watermark(real)
    real.change("UPDATE orders SET status = 'confirmed' WHERE order_id BETWEEN 1 AND 30")
    run = stack.run_dag("orders_etl")
    assert run["state"] == "success"
    (audit,) = [audit for audit in real.audits() if audit["run_id"] == run["run_id"]]
    assert (audit["extracted"], audit["inserted"], audit["updated"], audit["unchanged"]) == (30, 18, 12, 0)
    assert real.sink_rows() == {**before, **real.source_rows("order_id BETWEEN 1 AND 30")}
    assert watermark(real) > before_watermark


def test_an_empty_window_ends_green_with_everything_skipped(stack: Stack, real: PipelineFixture) -> None:
    before = watermark(real)
    run = stack.run_dag("orders_etl", since="2020-01-01T00:00:00Z", until="2020-02-01T00:00:00Z")
    assert run["state"] == "success"
    states = {task: state for task, state in run["tasks"].items() if not task.startswith("plan")}
    assert set(states.values()) == {"skipped"}
    assert watermark(real) == before
    told = (
        "orders: nothing to move, the tasks after plan are skipped: public.orders has no row whose updated_at is after"
    )
    assert f"{told} 2020-01-01" in stack.log.read_text()


def test_a_backfill_does_not_move_the_watermark_back(stack: Stack, real: PipelineFixture) -> None:
    before, rows = watermark(real), real.sink_rows()
    run = stack.run_dag("orders_etl", full_refresh=True, until="2026-01-05T00:00:00Z")
    assert run["state"] == "success"
    assert watermark(real) == before
    assert real.sink_rows() == rows


def test_a_run_that_leaves_the_look_back_unread_does_not_move_the_watermark(
    real: PipelineFixture, airflow_sink: str
) -> None:
    """A transaction that committed late, just before the watermark, would never be read."""
    before = watermark(real).replace(tzinfo=UTC)
    high, look_back = before + timedelta(minutes=1), real.pipeline.look_back
    for low, moves in ((before, False), (before - look_back + timedelta(microseconds=1), False)):
        assert advance(real, airflow_sink, low, high) is moves
    assert watermark(real).replace(tzinfo=UTC) == before
    assert advance(real, airflow_sink, before - look_back, high)
    assert watermark(real).replace(tzinfo=UTC) == high


def advance(made: PipelineFixture, sink: str, low: datetime, high: datetime) -> bool:
    return advance_watermark(made.pipeline, "by hand", Window(low=low, high=high), SinkHook(sink))


def test_params_that_make_no_sense_fail_the_plan_at_once(stack: Stack) -> None:
    run = stack.run_dag("orders_etl", full_refresh=True, since="2026-01-01T00:00:00Z")
    assert run["state"] == "failed"
    assert run["tasks"]["plan[-1]"] == "failed"
    assert run["why"] == ["full_refresh reads from the beginning and since does not: give one of them."]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (
            ["backfill", "create", "--dag-id=orders_etl", "--from-date=2026-01-01", "--to-date=2026-01-02"],
            "'orders_etl' does not allow backfill runs",
        ),
        (["dags", "trigger", "orders_etl", '--conf={"full_refresh": "yes"}'], "'yes' is not of type 'boolean'"),
    ],
    ids=["a backfill", "a value of another type"],
)
def test_airflow_refuses_to_make_a_run_that_could_not_do_what_was_asked(
    stack: Stack, command: list[str], told: str
) -> None:
    environment = os.environ | stack.environment | {"COLUMNS": "200"}
    completed = subprocess.run(["airflow", *command], env=environment, capture_output=True, text=True, check=False)
    assert completed.returncode != 0
    assert told in completed.stdout + completed.stderr


def planned(real: PipelineFixture) -> tuple[str, list[str]]:
    """The first run that read everything, and its partition."""
    ((run_id, high),) = real.query(
        "SELECT [run_id], [window_high] FROM [etl].[audit] WHERE [pipeline] = 'orders' AND [inserted] = 1600"
    )
    partition = Partition(window=Window(high=high.replace(tzinfo=UTC)), id="0001", expected_rows=4000)
    return run_id, [partition.model_dump_json()]


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ("UPDATE [etl].[audit] SET [dropped] = 1 WHERE [pipeline] = 'orders'", "extracted"),
        ("UPDATE [etl].[audit] SET [inserted] = 1000000 WHERE [pipeline] = 'orders'", "is not inserted 1000000"),
        ("UPDATE [etl].[audit] SET [standing] = 0 WHERE [pipeline] = 'orders'", "is not standing 0"),
        ("UPDATE [etl].[audit] SET [rejected] = 3 WHERE [pipeline] = 'orders'", "3 rows of the run were rejected"),
        (
            "UPDATE [etl].[audit] SET [fingerprint] = 'of another plan'",
            "Partition 0001 was not loaded as it was planned",
        ),
        ("DELETE FROM [etl].[audit] WHERE [pipeline] = 'orders'", "Partition 0001 was not loaded as it was planned"),
        (
            "UPDATE [dbo].[orders] SET [status] = 'pending' WHERE [order_id] = 100",
            "1 rows are not (status =",
        ),
    ],
)
def test_what_does_not_add_up_fails_and_keeps_the_watermark(
    real: PipelineFixture, airflow_sink: str, harm: str, told: str
) -> None:
    run_id, partitions = planned(real)
    before = watermark(real)
    tables = [ledger.AUDIT, real.pipeline.sink]
    saved = {table: real.query(f"SELECT * FROM {sink_sql.quote_table(table)}") for table in tables}
    real.execute(harm)
    with pytest.raises(AirflowFailException) as caught:
        reconcile_run(real.pipeline, run_id, partitions, airflow_sink)
    assert told in str(caught.value)
    assert watermark(real) == before
    for table, rows in saved.items():
        restore(real, sink_sql.quote_table(table), rows)


def restore(made: PipelineFixture, table: str, rows: list[tuple[Any, ...]]) -> None:
    """Put a table back as it was."""
    made.execute(f"DELETE FROM {table}")
    with mssql_python.connect(made.settings.sink().get_secret_value(), autocommit=True) as connection:
        connection.cursor().bulkcopy(table.replace("[", "").replace("]", ""), rows, timeout=0)


def test_one_dag_file_more_is_one_table_more(stack: Stack, postgres: Postgres, tmp_path: Path) -> None:
    """README's example, as the command writes it, with other types and a composite key, runs as it stands."""
    example = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    site = existing_fixture(ORDERS, stack.source_url, stack.sink_url)
    assert site.query("SELECT OBJECT_ID(N'[dbo].[stock]', N'U')") == [(None,)], "SINK_URL has a dbo.stock of its own"
    site.change(
        "CREATE TABLE stock (warehouse uuid, sku varchar(40), counted_on date NOT NULL, quantity integer, weight real,"
        " active boolean NOT NULL, changed_at timestamptz NOT NULL, PRIMARY KEY (warehouse, sku));"
        " INSERT INTO stock SELECT gen_random_uuid(), 'sku-' || n, '2026-01-01', n, n / 2.0, n % 3 > 0, now()"
        " FROM generate_series(1, 90) AS n;"
        " CREATE FUNCTION stock_touch() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN NEW.changed_at := now(); RETURN NEW; END';"
        " CREATE TRIGGER stock_touch BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION stock_touch()",
    )
    other = with_dag_file(
        stack, tmp_path / "dags", "broken_etl.py", "import of_nothing"
    )  # that it is wrong is no matter
    other.run(sys.executable, "-m", "etl", "new-pipeline", "public.stock", "--to", str(tmp_path / "dags"), quiet=True)
    assert (tmp_path / "dags" / "stock_etl.py").read_text() == example
    run = other.run_dag("stock_etl")
    assert run["state"] == "success", other.log_end()
    assert site.query("SELECT COUNT_BIG(*) FROM [dbo].[stock]") == [(90,)]
    site.execute("DROP TABLE [dbo].[stock]")
    for table in ("audit", "watermark"):
        site.execute(f"DELETE FROM [etl].[{table}] WHERE [pipeline] = 'stock'")


def test_fused_steps_are_one_task_and_add_up_as_well(stack: Stack, real: PipelineFixture, tmp_path: Path) -> None:
    """The orders as they are, but in one pod, and with the filter at the source too."""
    text = (ROOT / "dags" / "orders_etl.py").read_text()
    fused = text.replace("    look_back=", '    steps="fused",\n    pushdown=True,\n    look_back=')
    real.change("UPDATE orders SET status = 'confirmed' WHERE order_id BETWEEN 101 AND 130")
    run = with_dag_file(stack, tmp_path / "dags", "orders_etl.py", fused).run_dag("orders_etl", full_refresh=True)
    assert run["tasks"] == {"plan[-1]": "success", "partition.run[0]": "success", "reconcile[-1]": "success"}
    assert real.sink_rows() == real.source_rows("status = 'confirmed'")
    (audit,) = [audit for audit in real.audits() if audit["run_id"] == run["run_id"]]
    assert audit["extracted"] == len(real.source_rows())
    assert audit["dropped"] == audit["extracted"] - audit["kept"] > 0


def with_dag_file(stack: Stack, dags: Path, name: str, text: str) -> Stack:
    """The same with a folder of DAGs that holds this one alone."""
    dags.mkdir()
    (dags / name).write_text(text)
    return replace(stack, environment=stack.environment | {"AIRFLOW__CORE__DAGS_FOLDER": str(dags)})


def test_rows_that_no_demo_made_are_not_touched(real: PipelineFixture) -> None:
    rows = real.sink_rows()
    real.execute(f"DROP TABLE {MARK}")
    with pytest.raises(RuntimeError, match="no demo made them"):
        real.claim()
    assert real.sink_rows() == rows
    real.execute(f"CREATE TABLE {MARK} ([made_by] nvarchar(40) NOT NULL)")


def test_a_configuration_error_is_not_retried(
    stack: Stack, real: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source is away for the steps alone: the task fails at its first try."""
    environment = {**stack.environment, "SOURCE_PASSWORD": "wrong", "AIRFLOW__SECRETS__BACKEND": ""}
    for name in ("source", "sink"):
        environment[f"AIRFLOW_CONN_{name.upper()}"] = airflow_connection(stack, monkeypatch, name)
    broken = replace(stack, environment=environment)
    real.change("UPDATE orders SET amount = 5 WHERE order_id = 4")
    run = broken.run_dag("orders_etl")
    assert run["state"] == "failed"
    assert run["tasks"]["partition.extract[0]"] == "failed"
    assert "a retry cannot help" in stack.log.read_text()


def test_without_retries_a_run_ends_at_its_first_failure_with_the_reason(stack: Stack) -> None:
    """As the demo runs it. Nothing listens on port 1."""
    away = {"SINK_URL": "mssql://etl:of-no-server@127.0.0.1:1/sink?encrypt=no"}
    run = replace(stack, environment=stack.environment | away).run_dag("orders_etl", retry=False)
    assert run["state"] == "failed"
    (why,) = run["why"]
    assert why.startswith("The sink 127.0.0.1:1/sink cannot be reached: 127.0.0.1 (127.0.0.1) does not answer on")


def test_old_runs_go_from_the_metadata_database_and_young_ones_stay(first_run: dict[str, Any], stack: Stack) -> None:
    """By the command of the CronJob airflow-clean."""
    young = stack.run_dag("orders_etl")
    job = yaml.safe_load((ROOT / "k8s" / "base" / "airflow" / "clean" / "cron-job.yaml").read_text())
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    metadata = stack.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "")
    with psycopg.connect(metadata, autocommit=True) as connection:
        for table in ("dag_run", "task_instance"):
            age = f"UPDATE {table} SET start_date = start_date - interval '91 days' WHERE run_id = %s"
            connection.execute(age.encode(), [first_run["run_id"]])
        stack.run(*container["args"], quiet=True)
        for table in ("dag_run", "task_instance", "xcom"):
            runs = {run for (run,) in connection.execute(f"SELECT run_id FROM {table}".encode())}
            assert young["run_id"] in runs
            assert first_run["run_id"] not in runs
        left = connection.execute("SELECT count(*) FROM pg_tables WHERE tablename LIKE '\\_airflow\\_deleted%'")
        assert left.fetchall() == [(0,)]


HOSTILE = '''"""A table of hostile names and keys, for Airflow."""

import pendulum
from airflow.sdk import DAG
from etl.model.pipeline import Pipeline

from etl_airflow.dag.factory import pipeline_dag

PIPELINE = Pipeline(
    name="hostile",
    source="public.Größe';--",
    sink="dbo.Größe']; DROP TABLE x--",
    columns={"k\\"'];": "varchar(80)", "漢": "text null", "at": "timestamptz"},
    key=["k\\"'];"],
    version="at",
    filter="漢 <> '$(id)' AND 漢 LIKE '%7%'",
    partition_size=1,
    steps="fused",
)

dag: DAG = pipeline_dag(
    PIPELINE,
    schedule="0 * * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="Europe/Berlin"),
    owner="data-platform",
)
'''


def test_names_and_keys_are_no_templates_and_no_commands(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys of the source end up in the arguments of pods, where Airflow renders templates."""
    hostile = with_dag_file(stack, tmp_path / "dags", "hostile_etl.py", HOSTILE)
    monkeypatch.syspath_prepend(str(tmp_path / "dags"))
    made = existing_fixture(importlib.import_module("hostile_etl").PIPELINE, stack.source_url, stack.sink_url)
    made.change("""CREATE TABLE "Größe';--" ("k""'];" varchar(80) PRIMARY KEY, "漢" text, at timestamptz NOT NULL)""")
    keys = ["{{ 7 * 7 }}", "{% for $(touch x)", "a.json", "';--\"}", "--help"]
    for key in keys:
        made.change("""INSERT INTO "Größe';--" VALUES (%s, '{{ 7 * 7 }}', now())""", key)
    run = hostile.run_dag("hostile_etl")
    assert run["state"] == "success", hostile.log_end()
    assert sum(task.startswith("partition.run[") for task in run["tasks"]) == len(keys)
    assert made.sink_rows() == made.source_rows()
    assert {key for (key,) in made.sink_rows()} == set(keys)
    made.clean()
