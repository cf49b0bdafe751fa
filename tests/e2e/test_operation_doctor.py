"""`scripts/doctor.sh` names the faults of a real deployment: many at once, in four waves.

The file is named so that it comes after the tests that watch the deployment, and before those that replace it. That
the doctor finds nothing once all is mended, minutes later, is in test_operation_well_again.py.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ops.cluster.kubectl import NAMESPACE, OBSERVABILITY
from tests.faults import misconfigurations as faults
from tests.harness.e2e.deployment import Airflow, Deployment, wait_for
from tests.harness.e2e.doctor import look

pytestmark = pytest.mark.acceptance
FAULTS = {
    "scheduler-silent": "scheduler",
    "dag-processor-silent": "dag processor",
    "triggerer-silent": "triggerer",
    "image-missing": "pod etl-poc/no-such-image",
    "oom-killed": "pod etl-poc/hungry",
    "crash-looping": "pod etl-poc/ends-on-purpose",
    "pod-unschedulable": "pod etl-poc/for-another-node",
    "claim-not-bound": "persistentvolumeclaim etl-poc/of-no-class",
    "secret-missing": "secret observability/grafana-admin",
    "source-login": "source",
    "sink-login": "sink",
    "pool-without-slots": "pool default_pool",
    "dag-paused": "DAG orders_etl",
    "scaled-to-zero": "statefulset observability/loki",
    "import-error": "file breaks_on_demand.py",
    "run-failed": "run of fails_unless_mended",
    "source-not-readable": "source",
    "sink-not-prepared": "sink",
    "mount-failing": "pod etl-poc/doctor-staging",
    "secret-newer-than-pods": "secret etl-poc/of-tests",
    "migrations-failed": "job etl-poc/airflow-migrate",
    "source-unreachable": "source",
    "airflow-login": "Airflow's administrator",
    "policies-not-enforced": "network policies on node",
    "launchers-unbounded": "validatingadmissionpolicybinding etl-poc-launched-pods",
    "service-without-endpoints": "service observability/statsd-exporter",
    "quota-met": "resourcequota etl-poc/etl-poc",
    "dns-down": "dns",
}
"""The faults, and the objects named in the findings; the last one only in our own cluster."""


@pytest.fixture(scope="module")
def findings(
    observed: Deployment, airflow: Airflow, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """The doctor's findings for each fault, by name. All faults are reverted by then."""
    folder = tmp_path_factory.mktemp("faults")
    airflow.await_dag("breaks_on_demand")
    airflow.pause("orders_etl", True)  # also so that no run of its schedule meets the other faults
    waves = [_stopped(observed, airflow, folder), _broken(observed, airflow, folder), _cut_off(observed, folder)]
    if "--builder=buildah" in observed.options:  # the cluster is ours
        waves.append(_without_names(observed))
    said = []
    for wave in waves:
        with wave:
            said.append(look(observed))
    found = {}
    for name, where in FAULTS.items():
        for diagnosis in said:
            if one := diagnosis.found(name, where):
                found[name] = one
    airflow.pause("orders_etl", False)
    return found


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_named(findings: dict[str, dict[str, Any]], observed: Deployment, name: str) -> None:
    if name == "dns-down" and "--builder=buildah" not in observed.options:
        pytest.skip("The DNS of a cluster that was given is left alone.")
    assert name in findings
    assert findings[name]["what"]
    assert findings[name]["do"]


def test_it_says_the_last_words_of_what_ended(findings: dict[str, dict[str, Any]]) -> None:
    assert faults.CRASH_SAID in findings["crash-looping"]["what"]
    assert faults.JOB_SAID in findings["migrations-failed"]["what"]
    assert "This task fails unless it is mended." in findings["run-failed"]["what"]
    assert "line 9: ValueError: This file breaks on demand." in findings["import-error"]["what"]


def test_it_tells_the_servers_own_words(findings: dict[str, dict[str, Any]]) -> None:
    assert "password authentication failed" in findings["source-login"]["what"]
    assert "Login failed" in findings["sink-login"]["what"]
    assert "permission denied for table orders" in findings["source-not-readable"]["what"]
    assert "permission was denied" in findings["sink-not-prepared"]["what"]
    assert "does not exist" in findings["mount-failing"]["what"]


def test_what_follows_from_a_server_that_is_scaled_to_zero_is_told_with_it(findings: dict[str, dict[str, Any]]) -> None:
    assert {"service-without-endpoints", "loki-away"} <= {one["name"] for one in findings["scaled-to-zero"]["follows"]}


def test_it_leaves_no_pod_behind(findings: dict[str, dict[str, Any]], observed: Deployment) -> None:
    selector = "--selector=app.kubernetes.io/component=doctor"
    wait_for("the pods of the doctor to go", lambda: not observed.objects("pods", selector), seconds=60)


@contextmanager
def _stopped(deployment: Deployment, airflow: Airflow, folder: Path) -> Iterator[None]:
    """Airflow is silent, no login succeeds, and pods beside it are unhealthy."""
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "of-no-class", "namespace": NAMESPACE},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "no-such-class",
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }
    pods = [
        faults.pod("no-such-image", "true", image="localhost/no-such-image:0.1.0"),
        faults.pod("hungry", "exec python3 -c 'bytearray(300_000_000)'", restartPolicy="Never"),
        faults.pod("ends-on-purpose", f"echo {faults.CRASH_SAID}; exit 3"),
        faults.pod("for-another-node", "true", nodeSelector={"etl-poc/no-such": "node"}),
    ]
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(faults.silent(deployment, airflow))
        enter(faults.applied(deployment, folder / "beside.json", claim, *pods))
        enter(faults.secret_without_a_key(deployment, "grafana-admin", "ADMIN_PASSWORD", OBSERVABILITY))
        enter(faults.another_password_at_source(deployment))
        enter(faults.another_password_at_sink(deployment))
        enter(faults.pool_of_no_slots(airflow))
        enter(faults.scaled_to_zero(deployment, "statefulset/loki", "loki", OBSERVABILITY))
        wait_for("Airflow to miss its parts", lambda: faults.unhealthy(airflow) == set(faults.SILENT), seconds=90)

        def unwell() -> bool:
            now = faults.states(deployment)
            # Between two starts it has ended, or waits for the next.
            crashed = {"Error", "CrashLoopBackOff"} & set(now["ends-on-purpose"].split())
            return bool(crashed) and "OOMKilled" in now["hungry"] and "Image" in now["no-such-image"]

        wait_for("pods to be unwell", unwell, seconds=60)
        yield


@contextmanager
def _broken(deployment: Deployment, airflow: Airflow, folder: Path) -> Iterator[None]:
    """The servers run, but what they depend on is broken."""
    meta = {"name": "of-tests", "namespace": NAMESPACE}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"KEY": "old"}}
    reader = faults.pod("reads-a-secret", "sleep 600", container={"envFrom": [{"secretRef": {"name": "of-tests"}}]})
    template = faults.pod("airflow-migrate", f"echo {faults.JOB_SAID}; exit 1", restartPolicy="Never")
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "airflow-migrate", "namespace": NAMESPACE},
        "spec": {"backoffLimit": 0, "template": {"spec": template["spec"]}},
    }
    # apply-all.sh creates it again, with the next change or if it is missing.
    deployment.kubectl("delete", "job", "airflow-migrate", "--ignore-not-found")
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(faults.applied(deployment, folder / "failing.json", secret, reader, job))
        enter(faults.import_error(deployment, airflow))
        enter(faults.failed_run(airflow))
        enter(faults.table_that_may_not_be_read(deployment))
        enter(faults.sink_without_a_grant(deployment))
        enter(faults.folder_that_is_gone(deployment))
        deployment.kubectl("wait", "pod/reads-a-secret", "--for=condition=Ready", "--timeout=60s")
        deployment.kubectl("patch", "secret", "of-tests", '--patch={"stringData": {"KEY": "new"}}')
        deployment.kubectl("wait", "job/airflow-migrate", "--for=condition=Failed", "--timeout=60s")
        yield


@contextmanager
def _cut_off(deployment: Deployment, folder: Path) -> Iterator[None]:
    """References lead nowhere, and a pod reaches every address, as without enforcement of policies."""
    with (
        faults.applied(deployment, folder / "anywhere.json", faults.ANYWHERE),
        faults.source_elsewhere(deployment),
        faults.policy_without_binding(deployment, "etl-poc-launched-pods"),
        faults.another_password_of_administrator(deployment),
        faults.service_of_other_labels(deployment, "statsd-exporter", OBSERVABILITY),
    ):
        yield


@contextmanager
def _without_names(deployment: Deployment) -> Iterator[None]:
    """No names, and no room."""
    with (
        faults.scaled_to_zero(deployment, "deployment/coredns", "kube-dns", "kube-system"),
        faults.quota_that_is_met(deployment),
    ):
        yield
