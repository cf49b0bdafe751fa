"""Findings of `doctor.sh` in pods, servers, Jobs and Services. One fault each, and no other."""

import pytest

from ops.doctor.snapshot import Answer, Snapshot
from tests.harness.doctor.healthy_deployment import NOW, ago, event, pod
from tests.harness.doctor.verdict import get, only, pod_of, remove, set_condition, set_state, unready, verdict, waiting
from tests.harness.manifests.rendering import Object

ENDED = {"reason": "Error", "exitCode": 1, "finishedAt": ago(30)}
KILLED = {"reason": "OOMKilled", "exitCode": 137, "finishedAt": ago(30)}
STEP = {
    "metadata": {"labels": {"kubernetes_pod_operator": "True"}},
    "spec": {"containers": [{"name": "base", "image": "localhost/etl:0.1.0"}]},
}


def step(seen: Snapshot, name: str = "orders-load-abc") -> Object:
    """A pod of a step, which nothing owns."""
    made = pod(name, STEP)
    seen.objects.append(made)
    return made


@pytest.mark.parametrize("reason", ["ErrImageNeverPull", "ImagePullBackOff", "ErrImagePull", "InvalidImageName"])
def test_an_image_that_the_node_has_not(seen: Snapshot, reason: str) -> None:
    set_state(pod_of(seen, "airflow-scheduler"), waiting(reason, "it is not there"))
    only(seen, "image-missing", "localhost/etl-airflow:0.1.0", reason, "never pulled: run scripts/apply-all.sh")


def test_an_image_that_cannot_be_pulled_is_told_once_for_all_its_pods(seen: Snapshot) -> None:
    set_state(pod_of(seen, "loki"), waiting("ErrImagePull", "no such host"))
    other = step(seen, "another")
    other["spec"]["containers"][0]["image"] = pod_of(seen, "loki")["spec"]["containers"][0]["image"]
    set_state(other, waiting("ErrImagePull", "no such host"))
    only(
        seen, "image-missing", "docker.io/grafana/loki", "no such host", "pod etl-poc/another", "k8s/components/images"
    )


def test_a_container_that_ends_again_and_again_with_its_last_words(seen: Snapshot) -> None:
    made = pod_of(seen, "airflow-triggerer")
    status = set_state(made, waiting("CrashLoopBackOff", "back-off 40s"), ENDED, restarts=4)
    seen.logs[f"etl-poc/{made['metadata']['name']}/{status['name']}"] = "no such option: --capacty"
    seen.airflow.health["triggerer"] = {"status": "unhealthy", "latest_triggerer_heartbeat": ago(300)}
    words = ("ends again and again", "4 restarts", "exit code 1", "no such option: --capacty", "--previous")
    only(seen, "crash-looping", *words, follows={"triggerer-silent"})


def test_a_container_between_two_starts_is_the_same_trouble(seen: Snapshot) -> None:
    set_state(pod_of(seen, "statsd-exporter"), {"running": {"startedAt": ago(2)}}, ENDED, restarts=1)
    unready(seen, "statsd-exporter")
    only(seen, "crash-looping", "1 restarts", follows={"service-without-endpoints"})


def test_a_container_that_ended_long_ago_and_is_ready_is_well(seen: Snapshot) -> None:
    status = pod_of(seen, "loki")["status"]["containerStatuses"][0]
    status |= {"restartCount": 3, "lastState": {"terminated": {**KILLED, "finishedAt": ago(3600)}}}
    assert verdict(seen).causes == []


def test_a_server_that_was_killed_for_its_memory_lately(seen: Snapshot) -> None:
    status = pod_of(seen, "loki")["status"]["containerStatuses"][0]
    status |= {"restartCount": 1, "lastState": {"terminated": KILLED}}
    limit = pod_of(seen, "loki")["spec"]["containers"][0]["resources"]["limits"]["memory"]
    only(seen, "oom-killed", "loki was killed for its memory", f"it may take {limit}")


def test_a_step_that_was_killed_for_its_memory(seen: Snapshot) -> None:
    made = step(seen)
    set_state(made, {"terminated": KILLED})
    made["status"]["phase"] = "Failed"
    only(seen, "oom-killed", "pod etl-poc/orders-load-abc", "etl_airflow/pods/spec.py")


def test_a_step_that_failed_is_for_airflow_to_tell(seen: Snapshot) -> None:
    made = step(seen)
    set_state(made, {"terminated": ENDED})
    made["status"]["phase"] = "Failed"
    assert verdict(seen).causes == []


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("0/1 nodes are available: 1 Insufficient memory.", "no room for what it asks for"),
        ("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.", "etl-poc/data=true"),
        ("0/1 nodes are available: 1 node(s) had untolerated taint(s).", "a taint of the node goes away"),
    ],
)
def test_a_pod_that_no_node_takes(seen: Snapshot, message: str, advice: str) -> None:
    made = step(seen)
    made["status"] = {"phase": "Pending"}
    set_condition(made, "PodScheduled", "False", reason="Unschedulable", message=message)
    only(seen, "pod-unschedulable", message, advice)


def test_a_container_that_is_not_even_begun(seen: Snapshot) -> None:
    set_state(pod_of(seen, "database-exporter"), waiting("RunContainerError", "exec: no such file"))
    unready(seen, "database-exporter")
    only(seen, "container-not-started", "RunContainerError. exec: no such file", follows={"service-without-endpoints"})


def test_a_pod_without_a_network(seen: Snapshot) -> None:
    made = pod_of(seen, "database-exporter")
    set_state(made, waiting("ContainerCreating"))
    seen.events.append(event(made, "FailedCreatePodSandBox", "plugin type=flannel failed"))
    only(seen, "container-not-started", "plugin type=flannel failed")


def test_a_pod_that_was_evicted(seen: Snapshot) -> None:
    made = pod_of(seen, "grafana")
    made["status"] = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."}
    unready(seen, "grafana")
    only(seen, "pod-ended", "Evicted. The node was low on memory.", follows={"service-without-endpoints"})


@pytest.mark.parametrize("reason", ["Terminated", "NodeShutdown"])
def test_pods_that_a_restart_of_the_node_has_ended_are_no_trouble(seen: Snapshot, reason: str) -> None:
    ended = pod("grafana-before-the-restart", pod_of(seen, "grafana"))
    ended["status"] = {"phase": "Failed", "reason": reason, "message": "The node is shutting down."}
    seen.objects.append(ended)
    assert not verdict(seen).causes


def test_a_server_that_runs_and_is_not_ready(seen: Snapshot) -> None:
    made = pod_of(seen, "mssql")
    set_state(made, {"running": {"startedAt": ago(300)}})
    seen.events.append(event(made, "Unhealthy", "Readiness probe failed: Login timeout expired"))
    unready(seen, "mssql-svc")
    seen.answers["sink"] = Answer("mssql-svc:1433/sink", "port", "mssql-svc does not answer on port 1433: refused.")
    words = ("has not been ready for 5 minutes", "Login timeout expired")
    only(seen, "pod-not-ready", *words, follows={"service-without-endpoints", "sink-unreachable"})


def test_a_server_that_is_being_made_is_not_ready_yet(seen: Snapshot) -> None:
    made = pod_of(seen, "grafana")
    made["metadata"]["creationTimestamp"] = ago(10)
    set_state(made, waiting("ContainerCreating"))
    only(seen, "pod-not-ready", "is being created, for 10 s now", "it is starting")


def test_a_task_that_is_being_made_is_nothing_wrong(seen: Snapshot) -> None:
    made = step(seen)
    made["metadata"]["creationTimestamp"] = ago(10)
    set_state(made, waiting("ContainerCreating"))
    assert verdict(seen).causes == []


def test_a_pod_that_is_going_is_nothing_wrong(seen: Snapshot) -> None:
    made = step(seen)
    made["metadata"]["deletionTimestamp"] = ago(1)
    set_state(made, {"terminated": ENDED})
    assert verdict(seen).causes == []


@pytest.mark.parametrize(("kind", "name"), [("Deployment", "airflow-scheduler"), ("StatefulSet", "metadata-postgres")])
def test_a_server_that_is_not_there(seen: Snapshot, kind: str, name: str) -> None:
    remove(seen, kind, name)
    seen.objects.remove(pod_of(seen, name))
    only(seen, "workload-missing", f"There is no {kind} {name}")


def test_a_server_that_is_scaled_to_zero_explains_its_service_and_its_silence(seen: Snapshot) -> None:
    get(seen, "StatefulSet", "loki")["spec"]["replicas"] = 0
    seen.objects.remove(pod_of(seen, "loki"))
    unready(seen, "loki")
    seen.loki = "no endpoints available for service loki"
    words = ("loki is scaled to 0", "kubectl --namespace observability scale statefulset/loki --replicas=1")
    only(seen, "scaled-to-zero", *words, follows={"service-without-endpoints", "loki-away"})


def test_a_scheduler_that_is_scaled_to_zero(seen: Snapshot) -> None:
    get(seen, "Deployment", "airflow-scheduler")["spec"]["replicas"] = 0
    seen.objects.remove(pod_of(seen, "airflow-scheduler"))
    seen.airflow.health["scheduler"] = {"status": "unhealthy", "latest_scheduler_heartbeat": ago(90)}
    seen.airflow.dags[0]["next_dagrun_run_after"] = ago(1000)
    only(seen, "scaled-to-zero", follows={"scheduler-silent", "dag-late"})


def test_pods_that_the_cluster_refuses_to_make(seen: Snapshot) -> None:
    message = 'pods "airflow-scheduler-1" is forbidden: error looking up service account'
    set_condition(get(seen, "Deployment", "airflow-scheduler"), "ReplicaFailure", "True", message=message)
    only(seen, "pods-not-made", "error looking up service account")


def test_a_stateful_set_whose_pod_is_refused(seen: Snapshot) -> None:
    server = get(seen, "StatefulSet", "loki")
    server["status"]["replicas"] = 0
    seen.events.append(event(server, "FailedCreate", 'violates PodSecurity "restricted:latest"'))
    only(seen, "pods-not-made", "violates PodSecurity")


@pytest.mark.parametrize(
    ("job", "name", "meaning"),
    [
        ("airflow-migrate", "migrations-failed", "The metadata database was not brought"),
        ("mssql-init-job", "sink-job-failed", "The sink was not prepared"),
    ],
)
def test_a_job_that_failed_with_its_last_words(seen: Snapshot, job: str, name: str, meaning: str) -> None:
    failed = get(seen, "Job", job)
    failed["status"] = {"failed": 11}
    set_condition(failed, "Failed", "True", message="Job has reached the specified backoff limit")
    made = pod(f"{job}-x1", failed["spec"]["template"], owner=("Job", job))
    container = made["spec"]["containers"][0]["name"]
    set_state(made, {"terminated": ENDED})
    made["status"]["phase"] = "Failed"
    seen.objects.append(made)
    seen.logs[f"etl-poc/{job}-x1/{container}"] = "relation job does not exist"
    only(seen, name, meaning, "relation job does not exist", "apply-all.sh")


def test_a_job_that_is_tried_again(seen: Snapshot) -> None:
    get(seen, "Job", "airflow-migrate")["status"] = {"failed": 2, "active": 1}
    only(seen, "migrations-failed", "has failed 2 times and is tried again")


def test_any_other_job_that_failed(seen: Snapshot) -> None:
    meta = {"name": "nightly", "namespace": "etl-poc"}
    job: Object = {"kind": "Job", "metadata": meta, "spec": {"template": STEP}, "status": {"failed": 1}}
    set_condition(job, "Failed", "True", message="too long")
    seen.objects.append(job)
    only(seen, "job-failed", "The Job nightly has failed", "too long")


def test_a_job_of_a_schedule_that_failed_and_was_good_the_next_time(seen: Snapshot) -> None:
    for name, kind, seconds in (("nightly-1", "Failed", 90_000), ("nightly-2", "Complete", 3600)):
        owners = [{"kind": "CronJob", "name": "nightly"}]
        meta = {"name": name, "namespace": "etl-poc", "creationTimestamp": ago(seconds), "ownerReferences": owners}
        job: Object = {"kind": "Job", "metadata": meta, "spec": {"template": STEP}, "status": {}}
        set_condition(job, kind, "True")
        seen.objects.append(job)
    assert verdict(seen).causes == []


def test_an_old_job_that_is_gone_is_nothing_wrong(seen: Snapshot) -> None:
    remove(seen, "Job", "airflow-migrate")
    assert verdict(seen).causes == []


def test_a_service_whose_labels_nothing_has(seen: Snapshot) -> None:
    get(seen, "Service", "loki")["spec"]["selector"] = {"app.kubernetes.io/name": "lokki"}
    unready(seen, "loki")
    seen.loki = "no endpoints available for service loki"
    only(seen, "service-without-endpoints", "no server has the labels", "lokki", follows={"loki-away"})


def test_the_oldest_event_is_not_taken_for_the_latest(seen: Snapshot) -> None:
    made = pod_of(seen, "mssql")
    set_state(made, {"running": {"startedAt": ago(300)}})
    old = event(made, "Unhealthy", "the old words") | {"lastTimestamp": ago(900)}
    seen.events += [event(made, "Unhealthy", "the new words"), old]
    only(seen, "pod-not-ready", "the new words")
    assert seen.now == NOW
