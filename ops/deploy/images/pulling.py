"""Has the nodes pull the images before anything waits for a pod: with progress, and however long it takes.

A pod for each image and node asks the kubelet for it, as the real one would: with the same mirrors, proxy and secrets.
Its command is in no image, so that nothing runs. One pod an image: of one with all of them the kubelet would tell
nothing before the last is there.
"""

import hashlib
import re
import time
from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field

from ops.cluster.console import Console, DeployError
from ops.cluster.images import WAITING, explain, is_local, lasts
from ops.cluster.kubectl import NAMESPACE, Kubectl, Object
from ops.cluster.nodes import Node
from ops.cluster.objects import images_of
from ops.deploy.images.digests import digest_in
from ops.deploy.images.images import name_on_node
from ops.deploy.manifests.rendering import Rendering, is_observability, pod_templates

POLL_SECONDS = 2.0
RETRY_SECONDS = 90.0
"""How long pulls that fail for a reason that may pass are tried again while nothing else is pulled."""
_STALLED_SECONDS = 3600.0
_TELL_SECONDS = 30.0
_NAME = "image-pull"
_SELECTOR = f"--selector=app.kubernetes.io/name={_NAME}"
_BYTES = re.compile(r"Image size: (\d+) bytes")


@dataclass(frozen=True)
class Pull:
    """An image that a node is to have."""

    node: str
    image: str
    namespace: str
    secrets: tuple[str, ...]
    needed: bool
    """Whether Airflow needs it."""
    again: bool = False
    """Whether the registry is asked also where the node has the image."""

    @property
    def pod(self) -> str:
        """The name of the pod that asks for it."""
        return f"{_NAME}-{hashlib.sha256(f'{self.node} {self.image}'.encode()).hexdigest()[:12]}"


@dataclass
class Progress:
    """How far the pulls are, by the names of their pods."""

    done: set[str] = field(default_factory=set)
    failing: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    """The bytes that came: as the registry sends them, compressed."""
    digests: dict[str, str] = field(default_factory=dict)
    """The names, with digests, that nodes report for the pulled images."""


@dataclass(frozen=True)
class Pulled:
    """What came."""

    size: int = 0
    """In bytes."""
    digests: dict[str, str] = field(default_factory=dict)
    """The digests by image, of those that have one."""


def planned(
    rendering: Rendering, nodes: Sequence[Node], data_node: Node | None, imported: set[str], *, again: bool = False
) -> list[Pull]:
    """What is to be pulled where: on every node what may run there, without what it has.

    `again`: with what it has, where that is named by a tag.
    """
    users: dict[str, list[tuple[Object, Object]]] = {image: [] for image in rendering.images}
    for item, pod in pod_templates(rendering):
        for image in images_of(pod):
            users.setdefault(image, []).append((item, pod))
    pulls = []
    for image, found in users.items():
        if is_local(image) or image in imported:
            continue
        # The volumes lie on one node, and so does what uses nothing but them.
        at_data = bool(found) and all(_has_claim(pod) for _, pod in found)
        everywhere = any(item["kind"] == "DaemonSet" for item, _ in found)
        namespaces = [str(item["metadata"]["namespace"]) for item, _ in found]
        secrets = {secret["name"] for _, pod in found for secret in pod.get("imagePullSecrets") or []}
        needed = not found or not all(is_observability(item) for item, _ in found)
        for node in nodes:
            takes = node == data_node if at_data else everywhere or node.is_schedulable
            asks = again and "@" not in image
            if node.is_ready and takes and (asks or name_on_node(image) not in node.images):
                namespace = namespaces[0] if namespaces else NAMESPACE
                pulls.append(Pull(node.name, image, namespace, tuple(sorted(secrets)), needed, asks))
    return pulls


def pull_images(console: Console, kubectl: Kubectl, pulls: Sequence[Pull]) -> Pulled:
    """Have images pulled; returns what came. Raises DeployError for those that Airflow cannot go without."""
    if not pulls:
        return Pulled()
    nodes = sorted({pull.node for pull in pulls})
    console.say(f"Pulling {len({pull.image for pull in pulls})} images onto {', '.join(nodes)} …")
    _remove(kubectl)
    try:
        kubectl.apply(map(_pod, pulls))
        progress = _follow(console, kubectl, pulls)
    finally:
        _remove(kubectl)
    there, total = len(progress.done), sum(progress.sizes.values())
    console.say(f"  {there} of {len(pulls)} are there; {total / 1000**2:,.0f} MB were pulled.")
    reasons = {pull: explain(progress.failing[pull.pod]) for pull in pulls if pull.pod not in progress.done}
    if any(pull.needed for pull in reasons):
        told = [f"  * {pull.image} on {pull.node}: {why}." for pull, why in reasons.items()]
        raise DeployError("\n".join(["These images cannot be pulled:", *told]))
    for pull, why in reasons.items():
        console.warn(f"{pull.image} cannot be pulled on {pull.node}, and Airflow goes on without it: {why}.")
    return Pulled(total, _digests(pulls, progress))


def _digests(pulls: Sequence[Pull], progress: Progress) -> dict[str, str]:
    """The digests of the pulled images. Raises DeployError if nodes got different ones for the same tag."""
    found: dict[str, str] = {}
    for pull in pulls:
        digest = digest_in(progress.digests.get(pull.pod, ""), pull.image)
        if digest and found.setdefault(pull.image, digest) != digest:
            raise DeployError(
                f"The tag {pull.image} was moved during the pull: {found[pull.image]} before, {digest} on {pull.node}."
                " Run the same again."
            )
    return found


def _follow(console: Console, kubectl: Kubectl, pulls: Sequence[Pull]) -> Progress:
    """Wait until all are there, or those that are left cannot be had."""
    images = {pull.pod: pull.image for pull in pulls}
    progress, told, known = Progress(), set[str](), set[str]()
    began_to_fail: float | None = None
    moved = spoke = time.monotonic()
    while True:
        with suppress(DeployError):  # K3s may be restarting
            progress = _look(kubectl)
        now, left = time.monotonic(), images.keys() - progress.done
        for pod in sorted(progress.done - told):
            told.add(pod)
            size = f", {progress.sizes[pod] / 1000**2:,.1f} MB" if pod in progress.sizes else ""
            console.say(f"  {len(told)} of {len(pulls)}: {images[pod]}{size}")
            moved = spoke = now
        for why in sorted(
            {f"{images[pod]}: {explain(progress.failing[pod])}" for pod in left & progress.failing.keys()}
        ):
            if why not in known:
                known.add(why)
                console.say(f"  {why}")
        began_to_fail = (began_to_fail or now) if left and left <= progress.failing.keys() else None
        if not left or _is_over(progress, left, now - (began_to_fail or now), now - moved):
            return progress
        if now - spoke > _TELL_SECONDS:
            spoke = now
            console.say(f"  waiting for {', '.join(sorted({images[pod] for pod in left}))}")
        time.sleep(POLL_SECONDS)


def _is_over(progress: Progress, left: Set[str], failing: float, idle: float) -> bool:
    """Whether none is left that may still come: for how many seconds all of them have failed, and none has come."""
    if left <= progress.failing.keys():
        return failing > RETRY_SECONDS or all(lasts(progress.failing[pod]) for pod in left)
    if idle > _STALLED_SECONDS:
        progress.failing |= dict.fromkeys(left - progress.failing.keys(), "it has not come in an hour")
        return True
    return False


def _look(kubectl: Kubectl) -> Progress:
    progress, names = Progress(), dict[str, str]()
    for pod in kubectl.items("pods", "--all-namespaces", _SELECTOR):
        name, status = pod["metadata"]["name"], pod.get("status", {})
        names[pod["metadata"].get("uid", "")] = name
        containers: list[Object] = status.get("containerStatuses") or []
        state: Object = containers[0].get("state", {}) if containers else {}
        waiting: Object = state.get("waiting", {})
        if waiting.get("reason") in WAITING:
            progress.failing[name] = f"{waiting['reason']}: {waiting.get('message', '')}"
        elif state and waiting.get("reason") != "ContainerCreating":
            progress.done.add(name)  # its command was looked for, and is in no image
            progress.digests[name] = containers[0].get("imageID") or ""
        elif status.get("phase") == "Failed":
            progress.failing[name] = f"{status.get('reason', 'Failed')}: {status.get('message', '')}"
    for event in kubectl.items("events", "--all-namespaces", "--field-selector=reason=Pulled"):
        size = _BYTES.search(event.get("message") or "")
        name = names.get(event["involvedObject"].get("uid", ""))
        if size and name:
            progress.sizes[name] = int(size[1])
    return progress


def _remove(kubectl: Kubectl) -> None:
    kubectl.run("delete", "pods", "--all-namespaces", _SELECTOR, "--timeout=60s", seconds=0)


def _has_claim(pod: Object) -> bool:
    return any("persistentVolumeClaim" in volume for volume in pod.get("volumes") or [])


def _pod(pull: Pull) -> Object:
    container = {
        "name": "image",
        "image": pull.image,
        "imagePullPolicy": "Always" if pull.again else "IfNotPresent",
        "command": ["/the-image-is-here"],
        "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"memory": "16Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pull.pod,
            "namespace": pull.namespace,
            "labels": {"app.kubernetes.io/name": _NAME},
        },
        "spec": {
            "nodeName": pull.node,
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            "imagePullSecrets": [{"name": name} for name in pull.secrets],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65534,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
        },
    }
