"""The invariants of a fault campaign: they hold where all is well, and name the violation where it is not."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import mssql_python
import psycopg
import pytest
from etl.model.window import Partition

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.pipelines import whole
from dev.sandbox.postgres import Postgres, run_postgres
from dev.sandbox.stack import INIT_SQL
from dev.sandbox.waiting import wait_for
from tests.chaos import invariants
from tests.chaos.invariants import ViolationError
from tests.chaos.orders import LONGEST_TRANSACTION, Traffic, expected_after_run, expected_in_sink, make_tables
from tests.chaos.runs import Run
from tests.cluster import Cluster
from tests.cluster.node.configuration import Place
from tests.cluster.nodes import Node as ClusterNode
from tests.faults.machines import FillStaging
from tests.faults.network import network_faults
from tests.faults.system import Node, SystemUnderTest
from tests.harness.e2e.dags.chaos_etl import SEPARATE
from tests.harness.e2e.live_pods import Pods

SYSTEM_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
PARTITION = Partition(window=whole().window, id="0001")


@pytest.fixture
def chaos(source_url: str, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    """The pipeline of a campaign and its tables, before the first run."""
    make_tables(source_url)
    with pipeline_fixture(SEPARATE.model_dump(), source_url, sink_url, tmp_path) as made:
        yield made


def a_run(made: PipelineFixture, began: datetime, state: str = "success", load: str = "success") -> Run:
    """A run of one partition as Airflow's API returns it."""
    told: dict[str, Any] = {"task_id": "partition.load", "map_index": 0, "state": load}
    moments = {"start_date": began.isoformat(), "end_date": datetime.now(UTC).isoformat()}
    return Run(made.pipeline, "run", state, began, datetime.now(UTC), {"partition.load[0]": {**told, **moments}})


def await_changes(traffic: Traffic, number: int) -> None:
    """Wait until so many more orders have changed."""
    enough = traffic.done + number
    wait_for(lambda: traffic.done >= enough)


def test_while_orders_change_runs_bring_exactly_what_must_be_in(chaos: PipelineFixture) -> None:
    with Traffic(chaos.source_url, seed=1) as traffic:
        for number in range(3):
            began = datetime.now(UTC)
            chaos.run(f"run {number}", PARTITION)
            run = replace(a_run(chaos, began), run_id=f"run {number}")
            expected = expected_after_run(chaos.source_url, chaos.pipeline, run.began, run.ended)
            invariants.check_rows(run, chaos.sink_rows(), expected)
            invariants.check_audit(run, chaos.audits())
            traffic.read_until = began - LONGEST_TRANSACTION
            await_changes(traffic, 20)
    assert expected_after_run(chaos.source_url, chaos.pipeline, datetime.now(UTC) + timedelta(hours=1), began)
    chaos.run("last", PARTITION)
    invariants.check_equal(chaos, expected_in_sink(chaos.source_url, chaos.pipeline))
    invariants.check_sink_is_tidy(chaos)


def test_cancelled_and_deleted_orders_stay_in_the_model_as_they_were(chaos: PipelineFixture) -> None:
    before = expected_in_sink(chaos.source_url, chaos.pipeline)
    first, second, third = sorted(before)[:3]
    with psycopg.connect(chaos.source_url, autocommit=True) as connection:
        connection.execute("UPDATE chaos_orders SET status = 'cancelled' WHERE order_id = %s", first)
        connection.execute("DELETE FROM chaos_orders WHERE order_id = %s", second)
        connection.execute("UPDATE chaos_orders SET amount = 77 WHERE order_id = %s", third)
    after = expected_in_sink(chaos.source_url, chaos.pipeline)
    assert {key for key in before if before[key] != after[key]} == {third}


def test_a_row_that_is_lost_after_a_green_run_is_told(chaos: PipelineFixture) -> None:
    began = datetime.now(UTC) + LONGEST_TRANSACTION
    run = a_run(chaos, began)
    expected = expected_after_run(chaos.source_url, chaos.pipeline, began, datetime.now(UTC))
    chaos.run("run", PARTITION)
    rows = chaos.sink_rows()
    invariants.check_rows(run, rows, expected)
    key, row = rows.popitem()
    with pytest.raises(ViolationError, match="not in"):
        invariants.check_rows(run, rows, expected)
    with pytest.raises(ViolationError, match="something else"):
        invariants.check_rows(run, {**rows, key: (*row[:1], "somebody else", *row[2:])}, expected)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("DELETE FROM {sink} WHERE [order_id] = 6", "lost"),
        ("UPDATE {sink} SET [amount] = 1 WHERE [order_id] = 6", "not as they were"),
        (
            "INSERT INTO {sink} ([order_id], [customer], [status], [currency], [amount], [created_at], [updated_at])"
            " VALUES (5000, N'x', N'confirmed', N'EUR', 1, '2026-01-01T00:00:00', '2026-01-01T00:00:00')",
            "should not be there",
        ),
    ],
)
def test_a_sink_that_is_not_the_model_is_told(chaos: PipelineFixture, change: str, told: str) -> None:
    chaos.run("run", PARTITION)
    expected = expected_in_sink(chaos.source_url, chaos.pipeline)
    invariants.check_equal(chaos, expected)
    chaos.execute(change.format(sink=f"[dbo].[{chaos.pipeline.name}]"))
    with pytest.raises(ViolationError, match=told):
        invariants.check_equal(chaos, expected)


def test_a_green_load_that_the_sink_knows_nothing_of_is_told(chaos: PipelineFixture) -> None:
    began = datetime.now(UTC)
    chaos.run("run", PARTITION)
    invariants.check_audit(a_run(chaos, began), chaos.audits())
    with pytest.raises(ViolationError, match="knows nothing"):
        invariants.check_audit(a_run(chaos, began), [])
    with pytest.raises(ViolationError, match="only"):
        invariants.check_audit(a_run(chaos, began, load="failed"), chaos.audits())
    wrong = [{**audit, "dropped": 0} for audit in chaos.audits()]
    with pytest.raises(ViolationError, match="extracted is not"):
        invariants.check_audit(a_run(chaos, began), wrong)


def test_what_a_load_leaves_in_the_sink_is_told(chaos: PipelineFixture) -> None:
    chaos.run("run", PARTITION)
    invariants.check_sink_is_tidy(chaos)
    table = f"[etl_staging].[{chaos.pipeline.name}_20260101000000_0123456789ab_01234567]"
    chaos.execute(f"CREATE TABLE {table} ([a] int NULL)")
    with pytest.raises(ViolationError, match="Staging tables"):
        invariants.check_sink_is_tidy(chaos)
    chaos.execute(f"DROP TABLE {table}")
    with mssql_python.connect(chaos.settings.sink().get_secret_value(), autocommit=False) as holder:
        holder.cursor().execute(
            f"EXEC sp_getapplock @Resource = N'etl: dbo.{chaos.pipeline.name}', @LockMode = N'Exclusive',"
            " @LockOwner = N'Transaction', @LockTimeout = 0"
        )
        with pytest.raises(ViolationError, match="lock is held"):
            invariants.check_sink_is_tidy(chaos)


def test_a_source_that_dies_comes_back_with_what_was_committed() -> None:
    with run_postgres() as postgres:
        url = postgres.create_database("orders", INIT_SQL)
        make_tables(url)
        assert postgres.server
        with Traffic(url, seed=2) as traffic:
            for _ in range(3):
                postgres.server.crash()
                postgres.server.start()
                await_changes(traffic, 5)
        with psycopg.connect(url) as connection:
            history = connection.execute(
                "SELECT count(*) FROM chaos_orders AS o WHERE NOT EXISTS (SELECT 1 FROM chaos_history AS h"
                " WHERE (h.order_id, h.updated_at, h.status) = (o.order_id, o.updated_at, o.status))"
            ).fetchone()
        assert history == (0,)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """Namespaces like those of a node, with nothing in them."""
    if os.geteuid() != 0 or not shutil.which("iptables", path=SYSTEM_PATH):
        pytest.skip("it takes root and iptables, as the tests' cluster does")
    staging = tmp_path / "staging"
    staging.mkdir()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", SYSTEM_PATH)
        command = ["unshare", "--net", "--mount", "sh", "-c", "echo ready; exec sleep 60"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout
            assert process.stdout.readline()
            first = ClusterNode(Place(tmp_path), "", process.pid, tmp_path)
            cluster = Cluster(tmp_path, tmp_path, tmp_path, first, "192.0.2.1", "", tmp_path, {}, [], Mock())
            try:
                yield Node(cluster, staging)
            finally:
                process.kill()


def test_faults_of_the_network_are_in_the_nodes_firewall_until_they_are_healed(node: Node) -> None:
    before = node.rules()
    system = SystemUnderTest(deployment=None, pods=Pods(), source=Postgres(5432), node=node, sink_is_double=True)  # type: ignore[arg-type]
    with node.prepared():
        for fault in network_faults():
            quiet = node.rules()
            (target,) = fault.targets(system)
            fault.inject(system, target)
            assert len(node.rules()) - len(quiet) == (1 if fault.name.startswith("refuse") else 2)
            fault.heal(system)
            assert node.rules() == quiet
    assert node.rules() == before


def test_a_full_staging_volume_has_no_room_until_it_is_healed(node: Node) -> None:
    system = SystemUnderTest(deployment=None, pods=Pods(), source=Postgres(5432), node=node, sink_is_double=True)  # type: ignore[arg-type]
    with node.prepared():
        fault, file = FillStaging(), node.staging_from_outside / "rows"
        (target,) = fault.targets(system)
        fault.inject(system, target)
        with pytest.raises(OSError, match="No space left"):
            file.write_bytes(b"rows")
        fault.heal(system)
        file.write_bytes(b"rows")
    assert not list(node.staging.iterdir())


def test_files_that_stay_beyond_their_time_are_told(chaos: PipelineFixture, tmp_path: Path) -> None:
    chaos.run("run", PARTITION)
    now = datetime.now(UTC)
    invariants.check_staging(tmp_path, chaos.pipeline, timedelta(minutes=1), now)
    with pytest.raises(ViolationError, match="still in staging"):
        invariants.check_staging(tmp_path, chaos.pipeline, timedelta(minutes=1), now + timedelta(minutes=2))
