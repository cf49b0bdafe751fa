"""A real Fluent Bit, with the configuration that is deployed, loses no line. It is the program FLUENT_BIT_PROGRAM.

No package registry has one, so these tests are skipped where none is given. The Loki is the tests' own.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dev.sandbox.waiting import wait_for
from tests.faults.silent_proxy import SilentProxy, silent_proxy
from tests.harness.logs.fluent_bit_process import NODE, PROGRAM, ContainerLog, FluentBit, run_fluent_bit
from tests.harness.logs.loki import LokiServer, loki_of_our_own, run_loki
from tests.harness.logs.loki_proxy import AUDIT, NODES, READ, run_proxy

pytestmark = pytest.mark.skipif(not PROGRAM, reason="no registry has Fluent Bit: name a program in FLUENT_BIT_PROGRAM")


@pytest.fixture
def way(loki: LokiServer) -> Iterator[SilentProxy]:
    with silent_proxy(urlsplit(loki.url).port or 80) as one:
        yield one


@pytest.fixture
def fluent_bit(tmp_path: Path, way: SilentProxy) -> Iterator[FluentBit]:
    with run_fluent_bit(tmp_path, way.port) as one:
        yield one


def arrive(loki: LokiServer, pod: str, lines: list[str]) -> None:
    """Wait until these are a pod's lines in Loki, each once and in order."""

    def found() -> list[str]:
        return [line for _, line, _ in loki.lines(f'{{job="pods"}} | pod="{pod}"')]

    wait_for(lambda: len(found()) >= len(lines), seconds=90)
    assert found() == lines


def numbered(first: int, last: int) -> list[str]:
    return [f"line {number}" for number in range(first, last)]


def test_a_line_arrives_as_it_was_printed_with_what_its_file_is_named(fluent_bit: FluentBit, loki: LokiServer) -> None:
    run = {"run_id": "manual__2026-01-01T00:00:00+00:00", "step": "load", "partition": "0001", "pipeline": "orders"}
    lines = [
        "plain é",
        '{"event": "only this"}',
        '{"id": 36893488147419103232}',
        '{"a": 1} and more',
        json.dumps({"event": "naïve", **run}, ensure_ascii=False),
    ]
    ContainerLog(fluent_bit, "as-printed-58c7f67796-fdm79").write(lines)
    arrive(loki, "as-printed-58c7f67796-fdm79", lines)
    found = [
        labels for text in ("plain é", "naïve") for _, _, labels in loki.lines(f'{{app="as-printed"}} |= "{text}"')
    ]
    named = {"namespace": "etl-poc", "app": "as-printed", "container": "main", "pod": "as-printed-58c7f67796-fdm79"}
    assert [labels.items() >= (named | {"node": "node-1"}).items() for labels in found] == [True, True]
    assert found[1].items() >= run.items()


def test_a_line_that_a_worker_could_not_send_has_the_identity_of_its_task(
    fluent_bit: FluentBit, loki: LokiServer
) -> None:
    task = {"dag_id": "orders", "task_id": "plan"}
    of_a_line = {"run_id": "manual__1", "try_number": "1", "map_index": "-1", "path": "a/b.log"}
    record = {"event": "é", "timestamp": "2026-01-01T00:00:00.25Z", "undelivered": True, **task, **of_a_line}
    recent = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - 7200))
    printed = [json.dumps(record | {"timestamp": f"{recent}{part}"}) for part in (".25Z", "Z")]
    ContainerLog(fluent_bit, "orders-plan-x", container="base").write([printed[0], '{"event": "sent by the worker"}'])
    ContainerLog(fluent_bit, "airflow-triggerer-58c7f67796-fdm79", container="airflow").write([printed[1]])
    wait_for(lambda: len(loki.lines('{job="airflow-task"}', minutes=180)) >= 2, seconds=30)
    lines = loki.lines('{job="airflow-task", dag_id="orders", task_id="plan"}', minutes=180)
    assert [labels.items() >= of_a_line.items() for _, _, labels in lines] == [True, True]
    assert [json.loads(line)["event"] for _, line, _ in lines] == ["é", "é"]
    # Filed under its own time, or, without a fraction of a second, under that at which it was printed.
    assert lines[0][0] % 10**9 == 250_000_000
    assert lines[0][0] < time.time_ns() - 7190 * 10**9


def test_no_other_pod_writes_the_log_of_a_task_and_of_other_namespaces_nothing_is_read(
    fluent_bit: FluentBit, loki: LokiServer
) -> None:
    record = {"event": "forged", "undelivered": True, "dag_id": "victim", "task_id": "plan", "path": "a/b.log"}
    forged = json.dumps(record)
    ContainerLog(fluent_bit, "forger-58c7f67796-fdm79", namespace="default").write([forged])
    ContainerLog(fluent_bit, "coredns-58c7f67796-fdm79", namespace="kube-system").write([forged])
    ContainerLog(fluent_bit, "forger-0").write([forged])
    ContainerLog(fluent_bit, "airflow-api-server-58c7f67796-fdm79", container="airflow").write([forged, "after"])
    arrive(loki, "forger-0", [forged])
    arrive(loki, "airflow-api-server-58c7f67796-fdm79", [forged, "after"])
    assert loki.lines('{job="airflow-task", dag_id="victim"}') == []
    assert loki.lines('{job="pods", namespace=~"default|kube-system"}') == []


def test_the_audit_trails_of_airflow_and_of_kubernetes_arrive_by_way_of_the_proxy(tmp_path: Path) -> None:
    done = json.dumps({"audit": "airflow", "event": "trigger_dag_run", "user": "ann", "dag_id": "orders_etl"})
    asked = json.dumps({"kind": "Event", "verb": "create", "user": {"username": "system:admin"}})
    with (
        run_loki(tmp_path, tenants=True) as server,
        run_proxy(tmp_path, server) as proxy,
        run_fluent_bit(tmp_path / "node", proxy.ports[NODES]) as fluent_bit,
    ):
        (fluent_bit.folder / "log" / "kubernetes").mkdir()
        (fluent_bit.folder / "log" / "kubernetes" / "audit.log").write_text(f"{asked}\n")
        api_server = ContainerLog(fluent_bit, "airflow-api-server-58c7f67796-fdm79", container="airflow")
        api_server.write([done, "GET / 200"])
        # No other pod's line is one of the trail.
        ContainerLog(fluent_bit, "forger-0").write([done])
        wait_for(lambda: len(proxy.find(AUDIT, '{job=~".+-audit"}')) >= 2)
        wait_for(lambda: len(proxy.find(READ, '{job="pods"}')) >= 2)
        found = {labels["job"]: line for labels, line in proxy.find(AUDIT, '{job=~".+"}')}
        assert found == {"airflow-audit": done, "kubernetes-audit": asked}
        assert {labels["node"] for labels, _ in proxy.find(AUDIT, '{job=~".+"}')} == {NODE}
        lines = {(labels["app"], line) for labels, line in proxy.find(READ, '{job="pods"}')}
        assert lines == {("airflow-api-server", "GET / 200"), ("forger", done)}


def test_a_file_that_is_renamed_is_read_to_its_end_also_where_nobody_read_meanwhile(
    fluent_bit: FluentBit, loki: LokiServer
) -> None:
    log = ContainerLog(fluent_bit, "renamed-0")
    log.write(numbered(0, 100))
    arrive(loki, "renamed-0", numbered(0, 100))
    fluent_bit.stop()
    log.write(numbered(100, 200))
    log.rotate()
    log.write(numbered(200, 300))
    fluent_bit.start()
    arrive(loki, "renamed-0", numbered(0, 300))
    # Renamed while it reads: the file is there still, and not read again, nor after a kill.
    time.sleep(1.1)  # two files of one second would have one name
    log.rotate()
    log.write(numbered(300, 400))
    arrive(loki, "renamed-0", numbered(0, 400))
    fluent_bit.kill()
    fluent_bit.start()
    log.write(numbered(400, 500))
    arrive(loki, "renamed-0", numbered(0, 500))
    wait_for(lambda: fluent_bit.metric("fluentbit_input_records_total", "pods") == 100)


def test_nothing_is_lost_where_it_is_killed(fluent_bit: FluentBit, loki: LokiServer) -> None:
    log = ContainerLog(fluent_bit, "killed-0")
    for first in range(0, 3000, 1000):
        log.write(numbered(first, first + 500))
        fluent_bit.kill()
        log.write(numbered(first + 500, first + 1000))
        fluent_bit.start()
    arrive(loki, "killed-0", numbered(0, 3000))


@loki_of_our_own
def test_nothing_is_lost_while_loki_is_away_and_it_is_no_reason_to_end_it(
    tmp_path: Path, loki: LokiServer, way: SilentProxy
) -> None:
    fluent_bit = FluentBit(tmp_path, way.port)
    fluent_bit.configuration["service"]["storage.max_chunks_up"] = 3  # in memory, so that it need not take long
    loki.stop()
    fluent_bit.start()
    try:
        log = ContainerLog(fluent_bit, "away-0")
        chunks = fluent_bit.folder / "state" / "chunks"
        for first in range(0, 3000, 10):
            log.write(numbered(first, first + 10))
            time.sleep(0.1)
            if len(list(chunks.glob("*/*.flb"))) == 7:
                break
        lines = first + 10
        log.path.unlink()
        assert fluent_bit.metric("fluentbit_input_ingestion_paused") == 0
        assert fluent_bit.is_alive()
        assert fluent_bit.is_healthy()
        loki.start()
        arrive(loki, "away-0", numbered(0, lines))
    finally:
        fluent_bit.kill()


def test_nothing_is_lost_where_loki_takes_a_connection_and_says_nothing(
    fluent_bit: FluentBit, loki: LokiServer, way: SilentProxy
) -> None:
    way.silent = True
    log = ContainerLog(fluent_bit, "silent-0")
    log.write(numbered(0, 1000))
    wait_for(lambda: way.taken)
    way.silent = False
    log.write(numbered(1000, 2000))
    arrive(loki, "silent-0", numbered(0, 2000))


def test_the_liveness_probe_tells_a_stuck_pipeline_from_one_that_runs(tmp_path: Path, way: SilentProxy) -> None:
    fluent_bit = FluentBit(tmp_path, way.port)
    code = 'function stick(tag, time, record) if record["log"] == "stick" then while true do end end return 0 end'
    filters = fluent_bit.configuration["pipeline"]["filters"]
    filters.insert(0, {"name": "lua", "match": "pods", "call": "stick", "code": code})
    fluent_bit.start()
    try:
        ContainerLog(fluent_bit, "stuck-0").write(["goes on"])
        wait_for(lambda: fluent_bit.metric("fluentbit_output_proc_records_total", "pods") == 1)
        assert fluent_bit.is_alive()
        ContainerLog(fluent_bit, "stuck-0").write(["stick"])
        wait_for(lambda: not fluent_bit.is_alive())
        assert fluent_bit.is_healthy()  # by which the probe is not to go
    finally:
        fluent_bit.kill()
