"""A double of kubectl, in a test's process or on PATH: objects in a file, recorded calls, workloads ready at once.

It only knows the calls of ops/deploy and ops/doctor. `state.json` in FAKE_CLUSTER has `objects` by key, and deviations
of a test: `unready` (names), `failing` (Jobs), `pods`, `events`, `logs`, `port`,
`refuses` (verbs), `raw` (answers by path), `told` (what a pod that is created prints), `stuck` (its status instead),
`exec` (what a command in a pod says that fails), `prints` (what one says that does not), `served` (versions of APIs),
`images` (the state of a container that has no image), `digests` (what the registry has under a tag).
"""

import fcntl
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_KINDS = (
    *("Node", "Pod", "Namespace", "PersistentVolume", "PersistentVolumeClaim", "ResourceQuota", "Job", "CronJob"),
    *("Secret", "ConfigMap", "Deployment", "StatefulSet", "DaemonSet", "Service", "EndpointSlice", "Ingress"),
    *("IngressClass", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy", "ServiceAccount", "Role"),
    *("RoleBinding", "ServiceCIDR", "ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy"),
    "ValidatingAdmissionPolicyBinding",
)
KINDS = {
    "pv": "PersistentVolume",
    "tlsstores.traefik.io": "TLSStore",
    "helmcharts.helm.cattle.io": "HelmChart",
    "helmchartconfigs.helm.cattle.io": "HelmChartConfig",
    **{kind.lower(): kind for kind in _KINDS},
    **{re.sub("ys$", "ies", re.sub("sss$", "sses", f"{kind.lower()}s")): kind for kind in _KINDS},
}
"""The names that kubectl takes: singular and plural."""


class RefusedError(Exception):
    """A call that fails with this message and exit code 1."""


def main(arguments: list[str]) -> int:
    """The program on PATH."""
    try:
        if "port-forward" in arguments:
            print(f"Forwarding from 127.0.0.1:{forwarded(arguments)} -> 8080", flush=True)
            time.sleep(60)
            return 0
        print(call(arguments, "" if sys.stdin.isatty() else sys.stdin.read()))
    except RefusedError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def call(arguments: list[str], stdin: str) -> str:
    """Record a call and answer it. Raises RefusedError."""
    with recording(arguments, stdin):
        return answer(arguments, stdin)


def forwarded(arguments: list[str]) -> int:
    """Record a call that forwards a port; returns the port. Raises RefusedError."""
    with recording(arguments, ""):
        state = json.loads((folder() / "state.json").read_text())
        if "port" not in state or "port-forward" in state.get("refuses", []):
            raise RefusedError("The server refused to port-forward.")
        return int(state["port"])


@contextmanager
def recording(arguments: list[str], stdin: str) -> Iterator[None]:
    """Record a call, and exclude others meanwhile."""
    with (folder() / "calls.jsonl").open("a") as calls:
        fcntl.flock(calls, fcntl.LOCK_EX)
        calls.write(json.dumps({"argv": arguments, "stdin": stdin}) + "\n")
        calls.flush()
        yield


def folder() -> Path:
    return Path(os.environ["FAKE_CLUSTER"])


def answer(arguments: list[str], stdin: str) -> str:
    file = folder() / "state.json"
    state = json.loads(file.read_text())
    words = [word for word in arguments if not word.startswith("--")]
    flags = dict(word.lstrip("-").partition("=")[::2] for word in arguments if word.startswith("--"))
    if "--namespace" in arguments:
        flags["namespace"] = arguments[arguments.index("--namespace") + 1]
        words.remove(flags["namespace"])
    verb, rest = words[0], words[1:]
    if verb in state.get("refuses", []):
        raise RefusedError(f"The server refused to {verb}.")
    before = json.dumps(state)
    output = VERBS[verb](state, rest, flags, stdin)
    if json.dumps(state) != before:
        file.with_suffix(".new").write_text(json.dumps(state))
        file.with_suffix(".new").replace(file)
    return output


def key_of(item: dict[str, Any]) -> str:
    return f"{item['kind']}/{item['metadata']['name']}"


def kustomize(_state: Any, rest: list[str], _flags: Any, _stdin: str) -> str:
    return (Path(rest[0]) / "rendered.yaml").read_text()


def annotate(state: Any, rest: list[str], flags: Any, stdin: str) -> str:
    if "local" in flags:
        return (folder() / "overlay" / "rendered.json").read_text()
    name, _, value = rest[2].partition("=")
    state["objects"][f"Node/{rest[1]}"]["metadata"].setdefault("annotations", {})[name] = value
    return ""


def label(state: Any, rest: list[str], _flags: Any, _stdin: str) -> str:
    labels = state["objects"][f"Node/{rest[1]}"]["metadata"].setdefault("labels", {})
    if rest[2].endswith("-"):
        labels.pop(rest[2][:-1], None)
    else:
        name, _, value = rest[2].partition("=")
        labels[name] = value
    return ""


def version(state: Any, _rest: Any, _flags: Any, _stdin: str) -> str:
    return json.dumps({"serverVersion": {"major": "1", "minor": state.get("minor", "33")}})


def get(state: Any, rest: list[str], flags: Any, _stdin: str) -> str:
    if flags.get("raw") == "/apis":
        return json.dumps({"groups": [{"versions": [{"groupVersion": one}]} for one in state.get("served", [])]})
    if "raw" in flags:
        if flags["raw"] not in state.get("raw", {}):
            raise RefusedError("Error from server (ServiceUnavailable): no endpoints available")
        return str(state["raw"][flags["raw"]])
    if "image-pull" in flags.get("selector", "") or flags.get("field-selector") == "reason=Pulled":
        pulls = [item for key, item in state["objects"].items() if key.startswith("Pod/image-pull")]
        return json.dumps({"items": pulls if rest[0] == "pods" else [pulled(item) for item in pulls]})
    if rest[0] in ("pods", "events") and len(rest) == 1:
        return json.dumps({"items": state.get(rest[0], [])})
    kinds = [KINDS[word] for word in rest[0].split(",")]
    found = [item for item in state["objects"].values() if item["kind"] in kinds]
    if "selector" in flags:  # the one that is asked for: a label with one of some values
        name, _, values = flags["selector"].rstrip(")").partition(" in (")
        found = [item for item in found if item["metadata"].get("labels", {}).get(name) in values.split(",")]
    if flags.get("namespace"):
        found = [item for item in found if item["metadata"].get("namespace", flags["namespace"]) == flags["namespace"]]
    template = flags.get("output", "")
    if len(rest) > 1:
        found = [item for item in found if item["metadata"]["name"] == rest[1]]
        if template.startswith("go-template={{index .data"):
            name = re.search(r'"([\w.]+)"', template)
            if not found:
                raise RefusedError("Error from server (NotFound)")
            return str(found[0]["data"][name[1]]) if name else ""
        if template.startswith("go-template"):
            return "7"
        return json.dumps(found[0]) if found else ""
    if "managedFields" in template:
        lines = (f"{item['metadata']['namespace']} {item['metadata']['name']}" for item in found)
        keys = (" ".join([*item["data"], f"@{item['metadata']['changed']}"]) for item in found)
        return "\n".join(map(" ".join, zip(lines, keys, strict=True)))
    if template.startswith("go-template"):
        return "\n".join(" ".join([item["metadata"]["name"], *item["data"]]) for item in found)
    return json.dumps({"items": found})


def apply(state: Any, _rest: Any, _flags: Any, stdin: str) -> str:
    for item in json.loads(stdin)["items"]:
        live = state["objects"].setdefault(key_of(item), {})
        live.update({name: value for name, value in item.items() if name != "status"})
        live["status"] = live.get("status", {}) | status_of(state, item)
    return ""


def pulled(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["spec"]["containers"]
    message = (
        f'Successfully pulled image "{container["image"]}" in 1s (1s including waiting). Image size: 5000000 bytes.'
    )
    return {"involvedObject": {"kind": "Pod", "uid": pod["metadata"]["uid"]}, "message": message}


def image_state(state: Any, pod: dict[str, Any]) -> Any:
    pod["metadata"]["uid"] = pod["metadata"]["name"]
    (container,) = pod["spec"]["containers"]
    ended = {"terminated": {"reason": "StartError", "exitCode": 128}}
    return state.get("images", {}).get(container["image"], ended)


def image_id(state: Any, image: str) -> str:
    """The kubelet's ID of a pulled image."""
    named, _, digest = image.partition("@")
    digest = digest or state.get("digests", {}).get(image) or f"sha256:{hashlib.sha256(image.encode()).hexdigest()}"
    return f"{named.rpartition(':')[0]}@{digest}"


def status_of(state: Any, item: dict[str, Any]) -> dict[str, Any]:
    name = item["metadata"]["name"]
    if item["kind"] == "Pod":
        image = item["spec"]["containers"][0]["image"]
        status = {"name": "image", "state": image_state(state, item), "imageID": image_id(state, image)}
        return {"containerStatuses": [status]}
    if item["kind"] == "Job":
        ended = "Failed" if name in state.get("failing", []) else "Complete"
        return {"conditions": [{"type": ended, "status": "True", "message": "the reason"}]}
    ready = 0 if name in state.get("unready", []) else item["spec"].get("replicas", 1) if "spec" in item else 0
    return {"updatedReplicas": ready, "readyReplicas": ready, "availableReplicas": ready}


def create(state: Any, _rest: Any, _flags: Any, stdin: str) -> str:
    item = json.loads(stdin)
    if key_of(item) in state["objects"]:
        raise RefusedError("AlreadyExists")
    state["objects"][key_of(item)] = item
    if item["kind"] == "Pod":
        ended = {"phase": "Succeeded", "containerStatuses": [{"name": "one", "state": {"terminated": {"exitCode": 0}}}]}
        item["status"] = state.get("stuck", ended)
    return ""


def config(state: Any, _rest: Any, flags: Any, _stdin: str) -> str:
    if flags["output"] != "json":
        return str(state.get("user_certificate", "<no value>"))
    cluster = {"name": "one", "cluster": {"server": "https://203.0.113.5:6443"}}
    return json.dumps({"clusters": [cluster], "current-context": "default"})


def patch(state: Any, rest: list[str], flags: Any, stdin: str) -> str:
    live = state["objects"][f"{KINDS[rest[0]]}/{rest[1]}"]
    change = json.loads(flags.get("patch") or stdin)
    live.get("data", {}).update(change.get("data", {}))
    if "spec" in change:
        live["status"]["phase"] = "Available"
    return ""


def delete(state: Any, rest: list[str], flags: Any, stdin: str) -> str:
    if "image-pull" in flags.get("selector", ""):
        for key in [key for key in state["objects"] if key.startswith("Pod/image-pull")]:
            del state["objects"][key]
    if rest[:1] in (["pod"], ["secret"]):
        state["objects"].pop(f"{KINDS[rest[0]]}/{rest[1]}", None)
    for item in [] if rest else json.loads(stdin)["items"]:
        state["objects"].pop(key_of(item), None)
    return ""


def scale(state: Any, rest: list[str], flags: Any, _stdin: str) -> str:
    live = state["objects"][f"Deployment/{rest[0].partition('/')[2]}"]
    live["spec"]["replicas"] = int(flags["replicas"])
    live["status"] = status_of(state, live)
    return ""


def logs(state: Any, rest: list[str], flags: Any, _stdin: str) -> str:
    kept = state.get("logs", {})
    if "previous" in flags and f"{rest[0]} before" in kept:
        return str(kept[f"{rest[0]} before"])
    return str(kept.get(rest[0], state.get("told", "")))


def execute(state: Any, _rest: Any, _flags: Any, _stdin: str) -> str:
    if "exec" not in state:
        return str(state.get("prints", ""))
    raise RefusedError(f"{state['exec']}\ncommand terminated with exit code 1")


VERBS = {
    "config": config,
    "exec": execute,
    "kustomize": kustomize,
    "annotate": annotate,
    "label": label,
    "version": version,
    "get": get,
    "apply": apply,
    "create": create,
    "patch": patch,
    "delete": delete,
    "logs": logs,
    "scale": scale,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
