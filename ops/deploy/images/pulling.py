"""Pulls images onto the nodes before any workload needs them: with progress, and however long it takes.

A pod for each image and node has the kubelet pull it as for the workload: with the same mirrors, proxy and secrets. Its
command is in no image, so nothing runs. The kubelet would report a pod with all images only after the last pull.
"""

import hashlib
import re
import time
from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field

from ops.cluster.console import Console, DeployError
from ops.cluster.images import WAITING, explain, is_local, is_permanent
from ops.cluster.kubectl import NAMESPACE, Kubectl, Object
from ops.cluster.names import NAME
from ops.cluster.nodes import Node
from ops.cluster.objects import RESTRICTED, images_of, new
from ops.deploy.images.digests import digest_in
from ops.deploy.images.images import name_on_node
from ops.deploy.manifests.rendering import Rendering, is_observability, pod_templates

POLL_SECONDS = 2.0
RETRY_SECONDS = 90.0
"""How long pulls with temporary errors are retried while nothing else is pulled."""
_STALLED_SECONDS = 3600.0
_PROGRESS_SECONDS = 30.0
_NAME = "image-pull"
_SELECTOR = f"--selector={NAME}={_NAME}"
_BYTES = re.compile(r"Image size: (\d+) bytes")


@dataclass(frozen=True)
class Pull:
    """An image to pull onto a node."""

    node: str
    image: str
    namespace: str
    secrets: tuple[str, ...]
    needed: bool
    """Whether Airflow needs it."""
    again: bool = False
    """Whether the registry is asked even if the node has the image."""

    @property
    def pod(self) -> str:
        """The name of the pod that pulls it."""
        return f"{_NAME}-{hashlib.sha256(f'{self.node} {self.image}'.encode()).hexdigest()[:12]}"


@dataclass
class Progress:
    """The state of the pulls, by pod name."""

    done: set[str] = field(default_factory=set)
    failing: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    """Pulled bytes, compressed."""
    digests: dict[str, str] = field(default_factory=dict)
    """The names, with digests, that nodes report for the pulled images."""


@dataclass(frozen=True)
class PullResult:
    """The result of all pulls."""

    size: int = 0
    """In bytes."""
    digests: dict[str, str] = field(default_factory=dict)
    """The digests by image, of those that have one."""


def plan_pulls(
    rendering: Rendering, nodes: Sequence[Node], data_node: Node | None, imported: set[str], *, again: bool = False
) -> list[Pull]:
    """The pulls that are needed: for every node the images that may run there and that it lacks.

    `again`: also the images that it has by tag.
    """
    users: dict[str, list[tuple[Object, Object]]] = {image: [] for image in rendering.images}
    for item, pod in pod_templates(rendering):
        for image in images_of(pod):
            users.setdefault(image, []).append((item, pod))
    pulls = []
    for image, found in users.items():
        if is_local(image) or image in imported:
            continue
        # The volumes are on one node, and so are the pods with a claim.
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


def pull_images(console: Console, kubectl: Kubectl, pulls: Sequence[Pull]) -> PullResult:
    """Pull images. Raises DeployError if one that Airflow needs cannot be pulled."""
    if not pulls:
        return PullResult()
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
        lines = [f"  * {pull.image} on {pull.node}: {why}." for pull, why in reasons.items()]
        raise DeployError("\n".join(["These images cannot be pulled:", *lines]))
    for pull, why in reasons.items():
        console.warn(f"{pull.image} cannot be pulled on {pull.node}, and Airflow goes on without it: {why}.")
    return PullResult(total, _digests(pulls, progress))


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
    """Wait until all are pulled, or the remaining ones cannot be."""
    images = {pull.pod: pull.image for pull in pulls}
    progress, printed, known = Progress(), set[str](), set[str]()
    began_to_fail: float | None = None
    moved = printed_at = time.monotonic()
    while True:
        with suppress(DeployError):  # K3s may be restarting
            progress = _look(kubectl)
        now, left = time.monotonic(), images.keys() - progress.done
        for pod in sorted(progress.done - printed):
            printed.add(pod)
            size = f", {progress.sizes[pod] / 1000**2:,.1f} MB" if pod in progress.sizes else ""
            console.say(f"  {len(printed)} of {len(pulls)}: {images[pod]}{size}")
            moved = printed_at = now
        for why in sorted(
            {f"{images[pod]}: {explain(progress.failing[pod])}" for pod in left & progress.failing.keys()}
        ):
            if why not in known:
                known.add(why)
                console.say(f"  {why}")
        began_to_fail = (began_to_fail or now) if left and left <= progress.failing.keys() else None
        if not left or _is_over(progress, left, now - (began_to_fail or now), now - moved):
            return progress
        if now - printed_at > _PROGRESS_SECONDS:
            printed_at = now
            console.say(f"  waiting for {', '.join(sorted({images[pod] for pod in left}))}")
        time.sleep(POLL_SECONDS)


def _is_over(progress: Progress, left: Set[str], failing: float, idle: float) -> bool:
    """Whether no pull can succeed. `failing`, `idle`: seconds since all have failed, and since the last success."""
    if left <= progress.failing.keys():
        return failing > RETRY_SECONDS or all(is_permanent(progress.failing[pod]) for pod in left)
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
            progress.done.add(name)  # the container was created, and its command not found
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
        "securityContext": RESTRICTED,
    }
    specification = {
        "nodeName": pull.node,
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        "tolerations": [{"operator": "Exists"}],
        "imagePullSecrets": [{"name": name} for name in pull.secrets],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    return new("Pod", pull.pod, pull.namespace, {"labels": {NAME: _NAME}}, spec=specification)
