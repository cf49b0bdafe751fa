"""Pins pulled images by digest, trust on first use.

Anyone with write access to a registry can move a tag to another image. The kubelet reports the digest of the first
pull; from then on pods, and pulls on other nodes, use that digest.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from ops.cluster.console import Console, DeployError
from ops.cluster.images import is_local
from ops.cluster.kubectl import NAMESPACE, Kubectl
from ops.cluster.nodes import Node
from ops.cluster.objects import containers_of, images_of, new
from ops.deploy.manifests.launched_pods import launched_images
from ops.deploy.manifests.rendering import Rendering, pod_templates

RECORD = "image-digests"
"""The ConfigMap with the digest of each tag. It stays as long as the namespace."""
_FILE = "digests.json"
_PINNED = re.compile(r"(?:.*://)?([^@]+)@(sha256:[0-9a-f]{64})")


def recorded(kubectl: Kubectl) -> dict[str, str]:
    """The digests of earlier runs, by image and tag. Raises DeployError if the record is invalid."""
    live = kubectl.get("configmap", RECORD, "--namespace", NAMESPACE) or {}
    try:
        found: dict[str, str] = json.loads(live.get("data", {}).get(_FILE, "{}"))
        if all(_PINNED.fullmatch(f"{image}@{digest}") for image, digest in found.items()):
            return found
    except (ValueError, AttributeError):
        pass
    raise DeployError(
        f"The ConfigMap {RECORD} in {NAMESPACE} is not what was written there. Correct it; or delete it, and the"
        " digests of the images that the nodes have are recorded anew."
    )


def record(console: Console, kubectl: Kubectl, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Record the digests for the next run, and print those that have changed."""
    for image in sorted(image for image in before.keys() & now.keys() if before[image] != now[image]):
        console.say(f"{image}: the digest changes from {before[image]} to {now[image]}.")
    if before != now:
        data = {_FILE: json.dumps(now, indent=1, sort_keys=True)}
        kubectl.apply([new("ConfigMap", RECORD, data=data)])


def on_nodes(nodes: Sequence[Node], images: Iterable[str]) -> dict[str, str]:
    """The digests of tagged images that nodes list; the first node wins."""
    found: dict[str, str] = {}
    for image in images:
        for node in nodes:
            for names in node.image_names:
                digest = next(filter(None, (digest_in(name, image) for name in names)), None)
                if image in names and digest:
                    found.setdefault(image, digest)
    return found


def digest_in(answer: str, image: str) -> str | None:
    """The digest in a node's name of an image, such as docker.io/library/postgres@sha256:…; None if there is none.

    Imported images have no registry digest. Digests of another repository do not count.
    """
    match = _PINNED.fullmatch(answer)
    return match[2] if match and match[1] == _without_tag(image) else None


def can_be_pinned(rendering: Rendering) -> set[str]:
    """The images that are referenced by tag, by pods of the rendering only.

    Images that Airflow starts pods from are excluded: its settings are a repository and a tag, without a digest.
    """
    named = {image for _, pod in pod_templates(rendering) for image in images_of(pod)}
    return {image for image in named - launched_images(rendering) if not is_local(image) and "@" not in image}


def pin(rendering: Rendering, digests: Mapping[str, str]) -> None:
    """Add digests to the images of pods. The tags stay, for readability."""
    pinnable = can_be_pinned(rendering)
    pins = {image: f"{image}@{digest}" for image, digest in digests.items() if image in pinnable}
    for _, pod in pod_templates(rendering):
        for container in containers_of(pod):
            container["image"] = pins.get(container["image"], container["image"])
    rendering.images[:] = [pins.get(image, image) for image in rendering.images]


def _without_tag(image: str) -> str:
    folder, slash, name = image.partition("@")[0].rpartition("/")
    return f"{folder}{slash}{name.partition(':')[0]}"
