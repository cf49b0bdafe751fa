"""Secrets and ConfigMaps of the pods: missing ones, missing keys, and values that running pods have not read."""

from collections.abc import Iterator
from typing import NamedTuple

from ops.cluster.kubectl import Object
from ops.cluster.objects import containers_of, is_true
from ops.cluster.secret_keys import GENERATED, SOURCE_KEY, namespace_of
from ops.doctor.findings import Finding
from ops.doctor.snapshot import Snapshot, subject, subject_of, time_of

_ADVICE = "Run scripts/apply-all.sh: it makes what is missing, and generates no password anew"
_HOW = {
    SOURCE_KEY: "Set SOURCE_PASSWORD and run scripts/apply-all.sh, which makes it.",
    # Existing data needs the old password.
    ("mssql", "MSSQL_SA_PASSWORD"): f"{_ADVICE}, but takes the one that is kept beside the data.",
}


class Reference(NamedTuple):
    """A reference of a pod to a Secret or ConfigMap. Without a key: to all keys."""

    kind: str
    namespace: str
    name: str
    key: str = ""
    in_environment: bool = True


def secret_missing(seen: Snapshot) -> Iterator[Finding]:
    """A Secret that is missing, or lacks keys."""
    wanted = {(namespace_of(name), name, key) for name, key in (*GENERATED, SOURCE_KEY)}
    wanted |= {(one.namespace, one.name, one.key) for one in _references(seen) if one.kind == "Secret"}
    for namespace, name in sorted({(namespace, name) for namespace, name, _ in wanted}):
        there = seen.secrets.get((namespace, name))
        keys = {key for where, secret, key in wanted if (where, secret) == (namespace, name) and key}
        lacking = sorted(keys - there.keys if there else keys)
        if there and not lacking:
            continue
        what = f"has no {', '.join(lacking)}" if there else "is not there"
        advice = next((_HOW[name, key] for key in lacking if (name, key) in _HOW), f"{_ADVICE}.")
        yield Finding(
            subject("Secret", name, namespace),
            f"The Secret {name} {what}. Pods that need it do not start, or cannot log in.",
            advice + " A Secret that you bring yourself: docs/operations.md, Secrets.",
            explained_by={f"namespace {namespace}"},
        )


def config_map_missing(seen: Snapshot) -> Iterator[Finding]:
    """A ConfigMap that is missing, or lacks a key."""
    reported = set()
    for one in _references(seen):
        data = seen.find("ConfigMap", one.name, one.namespace)
        lacking = one.key and data is not None and one.key not in (data.get("data") or {})
        where = subject("ConfigMap", one.name, one.namespace)
        if one.kind == "ConfigMap" and where not in reported and (data is None or lacking):
            reported.add(where)
            yield Finding(
                where,
                f"The ConfigMap {one.name} {f'has no {one.key}' if lacking else 'is not there'}, and pods need it.",
                "Run scripts/apply-all.sh: it applies all settings again.",
            )


def secret_newer_than_pods(seen: Snapshot) -> Iterator[Finding]:
    """Pods that run with an earlier value of a Secret, which they read at their start."""
    for (namespace, name), secret in seen.secrets.items():
        older = [
            pod
            for pod in seen.of_kind("Pod", namespaces=(namespace,))
            if secret.changed
            and _runs_since(pod)
            and any(
                one.kind == "Secret" and one.name == name and one.in_environment
                for one in references_of(pod["spec"], namespace)
            )
            and (time_of(_runs_since(pod)) or seen.now) < secret.changed
        ]
        if older:
            names = ", ".join(pod["metadata"]["name"] for pod in older)
            yield Finding(
                subject("Secret", name, namespace),
                f"The Secret {name} was changed at {secret.changed:%Y-%m-%d %H:%M} UTC, after these pods had started:"
                f" {names}. They still use what it had before.",
                f"`kubectl --namespace {namespace} delete pod {names.replace(',', '')}`: new ones take the new values."
                " Where a database must know the new password too, change it there first.",
            )


def rests_on(seen: Snapshot, template: Object, namespace: str) -> set[str]:
    """The objects that a pod of this template depends on: node, claims, Secrets and ConfigMaps."""
    spec = template["spec"]
    needed = {subject(one.kind, one.name, namespace) for one in references_of(spec, namespace)}
    for volume in spec.get("volumes") or []:
        if claim := volume.get("persistentVolumeClaim"):
            needed.add(subject("PersistentVolumeClaim", claim["claimName"], namespace))
    nodes = [node for node in seen.of_kind("Node") if spec.get("nodeName", node["metadata"]["name"]) == _name(node)]
    return needed | {subject_of(node) for node in nodes}


def references_of(spec: Object, namespace: str) -> Iterator[Reference]:
    """The references of a pod's containers and volumes, without optional ones."""
    for container in containers_of(spec):
        for source in container.get("envFrom") or []:
            for field, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
                if field in source and not source[field].get("optional"):
                    yield Reference(kind, namespace, source[field]["name"])
        for variable in container.get("env") or []:
            for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
                one = (variable.get("valueFrom") or {}).get(field)
                if one and not one.get("optional"):
                    yield Reference(kind, namespace, one["name"], one["key"])
    for volume in spec.get("volumes") or []:
        for field, kind, name in (("secret", "Secret", "secretName"), ("configMap", "ConfigMap", "name")):
            if field in volume and not volume[field].get("optional"):
                yield Reference(kind, namespace, volume[field][name], in_environment=False)


def _references(seen: Snapshot) -> list[Reference]:
    """The references of all workloads and of Jobs that are not complete."""
    return [
        one
        for item in seen.of_kind("Deployment", "StatefulSet", "DaemonSet", "Job")
        if not is_true(item, "Complete")
        for one in references_of(item["spec"]["template"]["spec"], item["metadata"]["namespace"])
    ]


def _runs_since(pod: Object) -> str:
    statuses = pod.get("status", {}).get("containerStatuses") or []
    times = [one.get("state", {}).get("running", {}).get("startedAt") for one in statuses]
    return min((time for time in times if time), default="")


def _name(item: Object) -> str:
    return str(item["metadata"]["name"])
