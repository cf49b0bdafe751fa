"""Fills the snapshot: the cluster's objects first, then everything that has to be queried, in parallel."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from typing import Any

from ops.cluster.access import UnreachableError, reach
from ops.cluster.console import DeployError
from ops.cluster.kubectl import NAMESPACE, NAMESPACES, SYSTEM, Kubectl, Object
from ops.cluster.log_lines import last_message, reason
from ops.cluster.names import AIRFLOW_SETTINGS, API_SERVER, MODEL, SERVICE_NAME
from ops.cluster.objects import container_statuses, labels_of
from ops.doctor.airflow import query_airflow, source_tables
from ops.doctor.http import ask
from ops.doctor.outside import look_at_certificates, look_at_identity, look_at_pages, look_at_policies
from ops.doctor.probing import Probed, probe, probe_metadata
from ops.doctor.snapshot import API, Disk, Secret, Snapshot, time_of

PARTS = (
    *("disks", "airflow", "source", "sink", "metadata", "staging", "loki", "prometheus"),
    *("policies", "pages", "certificates", "identity"),
)
"""The parts that have to be queried."""
SECONDS = 10
"""The timeout of a call of the cluster."""
_CLUSTER = (
    "nodes,namespaces,persistentvolumes,ingressclasses,validatingadmissionpolicies,validatingadmissionpolicybindings"
)
_NAMESPACED = (
    "pods,services,endpointslices,deployments,statefulsets,daemonsets,jobs,persistentvolumeclaims,resourcequotas,"
    "configmaps,ingresses,networkpolicies"
)
# Names of keys and times of changes; values do not leave kubectl.
_SECRETS = (
    "{{range .items}}{{.metadata.namespace}} {{.metadata.name}}{{range $key, $value := .data}} {{$key}}{{end}}"
    "{{range .metadata.managedFields}}{{if .fieldsV1}}"
    '{{if or (index .fieldsV1 "f:data") (index .fieldsV1 "f:stringData")}} @{{.time}}{{end}}'
    '{{end}}{{end}}{{"\\n"}}{{end}}'
)
_MOST_LOGS = 10
_LOG_LINES = 20


def gather(say: Callable[[str], None], kubectl: Kubectl) -> Snapshot:
    """Read everything. Raises UnreachableError if the cluster does not answer."""
    seen = Snapshot(datetime.now(UTC), reach(kubectl))
    say(f"Looking at {seen.place or 'the cluster'} …")
    with ThreadPoolExecutor() as pool:
        try:
            _objects(pool, kubectl, seen)
        except DeployError as error:
            raise UnreachableError(f"The cluster does not show what is in it: {error}") from None
        if not any(item["kind"] == "Namespace" and item["metadata"]["name"] == NAMESPACE for item in seen.objects):
            seen.unseen = dict.fromkeys(PARTS, "nothing is deployed.")
            return seen
        say(
            "Asking Airflow, Prometheus and Loki; trying source, sink, staging and policies from pods; opening the UI …"
        )
        looks = (
            *(_airflow_and_connections, _metadata, _staging, _prometheus, _loki, _disks, _logs),
            *(look_at_policies, look_at_pages, look_at_certificates, look_at_identity),
        )
        futures = [pool.submit(look, kubectl, seen) for look in looks]
        wait(futures)
        for future in futures:
            future.result()
    return seen


def _objects(pool: ThreadPoolExecutor, kubectl: Kubectl, seen: Snapshot) -> None:
    cluster = pool.submit(kubectl.items, _CLUSTER)
    namespaced = pool.submit(kubectl.items, _NAMESPACED, "--all-namespaces")
    events = pool.submit(kubectl.items, "events", "--all-namespaces", "--field-selector=type=Warning")
    template = ("--show-managed-fields", f"--output=go-template={_SECRETS}")
    secrets = pool.submit(kubectl.run, "get", "secrets", "--all-namespaces", *template)
    ours = (*NAMESPACES, SYSTEM)
    seen.objects = cluster.result()
    seen.objects += [item for item in namespaced.result() if item["metadata"]["namespace"] in ours or _is_api(item)]
    seen.events = events.result()
    seen.secrets = {where: secret for where, secret in _secrets(secrets.result()) if where[0] in ours}


def _is_api(item: Object) -> bool:
    """Whether an object is the EndpointSlice of the Kubernetes API."""
    labels, (service, namespace) = labels_of(item), API
    return item["metadata"]["namespace"] == namespace and labels.get(SERVICE_NAME) == service


def _secrets(text: str) -> Iterator[tuple[tuple[str, str], Secret]]:
    for line in filter(None, text.splitlines()):
        namespace, name, *words = line.split()
        times = [when for word in words if word.startswith("@") and (when := time_of(word[1:]))]
        keys = frozenset(word for word in words if not word.startswith("@"))
        yield (namespace, name), Secret(keys, max(times, default=None))


def _airflow_and_connections(kubectl: Kubectl, seen: Snapshot) -> None:
    """Airflow first: its DAGs name the tables that must be readable."""
    if seen.ready_endpoints(API_SERVER):
        seen.airflow = query_airflow(kubectl)
        problem = seen.airflow.refused or seen.airflow.down
    else:
        problem = "its API server is not there."
    if problem:
        seen.unseen["airflow"] = f"Airflow could not be asked: {problem}"
    tables = [f"--table={table}" for table in source_tables(seen.airflow.dags)]
    # Staging in S3 needs no volume.
    bucket = [] if _staging_claim(seen) else ["staging"]
    probed = probe(kubectl, seen.find("Deployment", MODEL), "ends", ["source", "sink", *bucket, *tables])
    _take(seen, probed, "source", "sink", *bucket)


def _metadata(kubectl: Kubectl, seen: Snapshot) -> None:
    _take(seen, probe_metadata(kubectl, seen), "metadata")


def _staging(kubectl: Kubectl, seen: Snapshot) -> None:
    """A separate pod: a volume that cannot be mounted must not hide the databases."""
    claim = _staging_claim(seen)
    if claim:
        _take(seen, probe(kubectl, seen.find("Deployment", MODEL), "staging", ["staging"], claim), "staging")


def _staging_claim(seen: Snapshot) -> str:
    return seen.settings(AIRFLOW_SETTINGS).get("ETL_STAGING_CLAIM", "")


def _take(seen: Snapshot, probed: Probed, *names: str) -> None:
    seen.answers |= probed.answers
    if probed.pod and "kind" in probed.pod:
        seen.objects.append(probed.pod)
        seen.events += probed.events
    for name in names:
        if name not in probed.answers:
            seen.unseen[name] = probed.reason or "the probe pod gave no result for it."


def _prometheus(kubectl: Kubectl, seen: Snapshot) -> None:
    try:
        targets, alerts = ask(kubectl, seen, "prometheus", 9090, ["api/v1/targets?state=active", "api/v1/alerts"])
        seen.targets = json.loads(targets)["data"]["activeTargets"]
        seen.alerts = json.loads(alerts)["data"]["alerts"]
    except (DeployError, ValueError, LookupError) as error:
        seen.unseen["prometheus"] = f"Prometheus does not answer: {reason(error)}"


def _loki(kubectl: Kubectl, seen: Snapshot) -> None:
    try:
        ask(kubectl, seen, "loki", 3104, ["ready"])
    except DeployError as error:
        seen.loki = reason(error)


def _disks(kubectl: Kubectl, seen: Snapshot) -> None:
    """The file systems of the nodes, by their kubelets. Volumes on the same disk count as one."""
    for node in seen.of_kind("Node"):
        name = node["metadata"]["name"]
        try:
            summary = json.loads(kubectl.run("get", f"--raw=/api/v1/nodes/{name}/proxy/stats/summary"))
        except (DeployError, ValueError) as error:
            seen.unseen["disks"] = f"the kubelet of {name} gives no figures: {reason(error)}"
            continue
        rooms: dict[int, Disk] = {}
        for claim, stats in _file_systems(summary):
            size, free = stats.get("capacityBytes", 0), stats.get("availableBytes", 0)
            known = rooms.get(size, Disk(name, free, size, ()))
            names = {*known.claims, claim} - {""}
            rooms[size] = Disk(name, min(free, known.free), size, tuple(sorted(names)))
        seen.disks += [disk for size, disk in rooms.items() if size]


def _file_systems(summary: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    node = summary.get("node", {})
    yield "", node.get("fs") or {}
    yield "", (node.get("runtime") or {}).get("imageFs") or {}
    for pod in summary.get("pods") or []:
        for volume in pod.get("volume") or []:
            claim = volume.get("pvcRef")
            if claim and claim["namespace"] in NAMESPACES:
                yield f"{claim['namespace']}/{claim['name']}", volume


def _logs(kubectl: Kubectl, seen: Snapshot) -> None:
    """The last messages of containers that failed."""
    wanted = [(pod, one) for pod in seen.of_kind("Pod") for one in container_statuses(pod) if _has_failed(one)]
    for pod, status in wanted[-_MOST_LOGS:]:
        runs = ("--previous", "") if status.get("lastState") else ("",)
        if log := kubectl.container_log(pod, status["name"], _LOG_LINES, runs):
            meta = pod["metadata"]
            seen.logs[f"{meta['namespace']}/{meta['name']}/{status['name']}"] = last_message(log)


def _has_failed(status: Object) -> bool:
    ends = (status.get(name, {}).get("terminated") for name in ("state", "lastState"))
    return any(end and end.get("exitCode") for end in ends)
