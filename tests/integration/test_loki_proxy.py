"""Access to Loki through the proxy: each port allows what its name says, and nothing else.

The proxy is the real one, and Loki the one that tests have (tests/harness/logs/loki.py). Who reaches which port is in
tests/manifests/test_network.py.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from etl_airflow.task_logs.identity import Identity
from etl_airflow.task_logs.loki import Loki, LokiUnavailableError

from tests.harness.direct import DIRECT
from tests.harness.logs.loki import LokiServer, loki_of_our_own, real_loki, run_loki
from tests.harness.logs.loki_proxy import AUDIT, NODES, PUSH, QUERY, READ, STATE, TASKS, Proxy, run_proxy

pytestmark = loki_of_our_own
HARM = [
    ("POST", "/ingester/shutdown"),
    ("GET", "/ingester/shutdown"),
    ("POST", "/ingester/prepare_shutdown"),
    ("POST", "/flush"),
    ("POST", "/loki/api/v1/delete?query=%7Bjob%3D%22airflow-task%22%7D&start=0"),
    ("PUT", "/loki/api/v1/delete?query=%7Bjob%3D%22airflow-task%22%7D&start=0"),
    ("GET", "/loki/api/v1/delete"),
    ("DELETE", "/loki/api/v1/delete?request_id=a"),
    ("GET", "/config"),
    ("GET", "/services"),
    ("POST", "/log_level?log_level=debug"),
    ("GET", "/debug/pprof/heap"),
    ("GET", "/loki/api/v1/tail?query=%7Bjob%3D%22airflow-task%22%7D"),
    ("POST", "/api/prom/push"),
    ("POST", "/otlp/v1/logs"),
    ("POST", "/loki/api/v1/rules/a"),
    # The same by other spellings of a path.
    ("POST", "//ingester/shutdown"),
    ("POST", "/loki/api/v1/push/../delete?query=%7Bjob%3D%22airflow-task%22%7D&start=0"),
    ("POST", "/loki/api/v1/push/%2e%2e/delete?query=%7Bjob%3D%22airflow-task%22%7D&start=0"),
    ("GET", "/loki/api/v1/query/../../../../ingester/shutdown"),
    ("GET", "/loki/api/v1/label/..%2f..%2f..%2fconfig/values"),
    ("POST", "/INGESTER/SHUTDOWN"),
]


@pytest.fixture(scope="module")
def loki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LokiServer]:
    with run_loki(tmp_path_factory.mktemp("loki"), tenants=True) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(loki: LokiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with run_proxy(tmp_path_factory.mktemp("proxy"), loki) as one:
        yield one


@pytest.mark.parametrize("port", [READ, TASKS, NODES, AUDIT, STATE])
@pytest.mark.parametrize(("method", "path"), HARM, ids=lambda text: str(text)[:40])
def test_nobody_shuts_loki_down_or_deletes_or_configures(proxy: Proxy, port: int, method: str, path: str) -> None:
    status, told = proxy.call(port, method, path, X_Scope_OrgID="nodes")
    assert (status, "and nothing else" in told) == (403, True)
    assert proxy.call(STATE, "GET", "/ready") == (200, "ready\n")


@pytest.mark.parametrize("port", [TASKS, NODES])
def test_who_sends_may_not_read(proxy: Proxy, port: int) -> None:
    assert proxy.call(port, "GET", f"{QUERY}?query=%7Bjob%3D%22x%22%7D", X_Scope_OrgID="tasks")[0] == 403
    assert proxy.call(port, "POST", QUERY, X_Scope_OrgID="tasks")[0] == 403


@pytest.mark.parametrize("port", [READ, AUDIT, STATE])
def test_who_reads_may_not_send(proxy: Proxy, port: int, app: str) -> None:
    assert proxy.push(port, {"app": app}, "forged")[0] == 403
    assert proxy.find(READ, f'{{app="{app}"}}') == proxy.find(AUDIT, f'{{app="{app}"}}') == []


def test_who_asks_for_metrics_may_neither_read_nor_send(proxy: Proxy) -> None:
    assert "loki_" in proxy.call(STATE, "GET", "/metrics")[1]
    assert proxy.call(STATE, "GET", f"{QUERY}?query=%7Bjob%3D%22x%22%7D")[0] == 403


@pytest.mark.parametrize("said", ["", "audit", "nodes", "fake"])
def test_a_worker_writes_no_line_of_a_pod_or_node_and_none_of_the_audit_trail(
    proxy: Proxy, app: str, said: str
) -> None:
    """Whatever labels and tenant it sends, its lines differ from Fluent Bit's by a label that it cannot set."""
    headers = {"X_Scope_OrgID": said} if said else {}
    assert proxy.push(TASKS, {"job": "audit", "app": app, "__tenant_id__": "nodes"}, "forged", **headers)[0] in (
        204,
        400,
    )
    proxy.push(TASKS, {"job": "audit", "app": app}, "forged", **headers)
    assert proxy.push(NODES, {"job": "pods", "app": app}, "printed", X_Scope_OrgID="nodes") == (204, "")
    assert proxy.find(AUDIT, f'{{app="{app}"}}') == []
    assert [line for _, line in proxy.find(READ, f'{{app="{app}", __tenant_id__="nodes"}}')] == ["printed"]
    found = {labels["__tenant_id__"] for labels, line in proxy.find(READ, f'{{app="{app}"}}') if line == "forged"}
    assert found == {"tasks"}


@pytest.mark.parametrize("said", ["", "fake", "other", "audit|nodes", "audit\tx"])
def test_fluent_bit_is_one_of_two_tenants(proxy: Proxy, app: str, said: str) -> None:
    headers = {"X_Scope_OrgID": said} if said else {}
    assert proxy.push(NODES, {"app": app}, "forged", **headers)[0] == 403


def test_the_audit_trail_is_read_at_a_port_of_its_own(proxy: Proxy, app: str) -> None:
    assert proxy.push(NODES, {"job": "airflow-audit", "app": app}, "done", X_Scope_OrgID="audit") == (204, "")
    assert [line for _, line in proxy.find(AUDIT, f'{{app="{app}"}}')] == ["done"]
    assert proxy.find(READ, f'{{app="{app}"}}', X_Scope_OrgID="audit") == []


def test_a_task_sends_its_log_and_airflow_reads_it(proxy: Proxy, app: str) -> None:
    identity = Identity.of(f"dag_id={app}/run_id=manual__1/task_id=plan/attempt=1.log")
    assert identity
    now = datetime.now(UTC)
    nanoseconds = int(now.timestamp() * 1e9)
    Loki(proxy.url(TASKS)).push(identity, [(nanoseconds, "first"), (nanoseconds + 1, "second")])
    query = f'{{job="airflow-task", dag_id="{app}", task_id="plan"}} | path="{identity.path}"'
    start = int((now - timedelta(minutes=1)).timestamp() * 1e9)
    found = Loki(proxy.url(READ)).query(query, start, nanoseconds + 10**9, 10)
    assert [(entry.line, entry.path) for entry in found] == [("first", identity.path), ("second", identity.path)]
    with pytest.raises(LokiUnavailableError, match="403"):
        Loki(proxy.url(TASKS)).query(query, start, nanoseconds, 10)


@real_loki
def test_loki_itself_deletes_nothing_when_asked_to(proxy: Proxy, loki: LokiServer) -> None:
    """Nor for a client that bypassed the proxy."""
    asked = f"{loki.url}/loki/api/v1/delete?query=%7Bjob%3D%22airflow-task%22%7D&start=0"
    assert DIRECT.post(asked, headers={"X-Scope-OrgID": "tasks"}).status_code == 403


@real_loki
def test_of_the_audit_trail_a_whole_year_is_asked_for_at_once(proxy: Proxy) -> None:
    now = time.time_ns()
    day = 24 * 3600 * 10**9
    year, more = (f"{QUERY}?query=%7Bjob%3D%22x%22%7D&start={now - 360 * day}&end={now + n * day}" for n in (0, 10))
    assert proxy.call(AUDIT, "GET", year)[0] == 200
    status, told = proxy.call(AUDIT, "GET", more)
    assert (status, "exceeds the limit" in told, "366d" in told) == (400, True, True), told


def test_lines_from_before_there_were_tenants_are_found(tmp_path_factory: pytest.TempPathFactory, app: str) -> None:
    folder = tmp_path_factory.mktemp("before")
    with run_loki(folder) as before:
        assert before.push(({"app": app}, [[str(time.time_ns()), "before"]])) == (204, "")
        before.stop(kindly=True)
    with run_loki(folder, tenants=True) as server, run_proxy(folder, server) as proxy:
        assert [line for _, line in proxy.find(READ, f'{{app="{app}"}}')] == ["before"]


def test_grafana_asks_for_labels(proxy: Proxy) -> None:
    """Which the double of Loki's API does not know; that it is asked is shown by whose refusal it is."""
    for path in (
        "labels",
        "label/job/values",
        "series?match[]=%7Bjob%3D%22x%22%7D",
        "index/stats?query=%7Ba%3D%22b%22%7D",
    ):
        status, told = proxy.call(READ, "GET", f"/loki/api/v1/{path}")
        assert status == 200 or "the double of Loki's API does not implement" in told


def test_where_loki_is_away_a_sender_is_told_so_that_it_waits(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("away")
    with run_loki(folder, tenants=True) as server, run_proxy(folder, server) as proxy:
        server.stop()
        status, _ = proxy.call(TASKS, "POST", PUSH, b"{}", Content_Type="application/json")
        assert status == 502
