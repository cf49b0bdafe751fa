"""Pins images that are pulled by their digests: what a tag was when it first came here, it stays.

Whoever can write to a registry can put another image under a tag. The first pull of a tag is the kubelet's answer to
what it is; from then on pods, and pulls on other nodes, name that content, and the registry cannot change it.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from scripts.deploy.console import Console
from scripts.deploy.images import is_local
from scripts.deploy.kubectl import NAMESPACE, Kubectl, Object
from scripts.deploy.launched import launched_images
from scripts.deploy.nodes import Node
from scripts.deploy.rendering import Rendering, images_of, pod_templates

RECORD = "image-digests"
"""The ConfigMap with the digest of each tag. It stays as long as the namespace."""
_FILE = "digests.json"
_PINNED = re.compile(r"(?:.*://)?([^@]+)@(sha256:[0-9a-f]{64})")


def recorded(kubectl: Kubectl) -> dict[str, str]:
    """The digests of earlier runs, by image and tag."""
    live = kubectl.get("configmap", RECORD, "--namespace", NAMESPACE) or {}
    found: dict[str, str] = json.loads(live.get("data", {}).get(_FILE, "{}"))
    return found


def record(console: Console, kubectl: Kubectl, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Keep the digests for the next run, and say which are others than before."""
    for image in sorted(image for image in before.keys() & now.keys() if before[image] != now[image]):
        console.say(f"{image} is {now[image]} from now on, and was {before[image]}.")
    if before != now:
        data = {_FILE: json.dumps(now, indent=1, sort_keys=True)}
        metadata = {"name": RECORD, "namespace": NAMESPACE}
        kubectl.apply([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}])


def on_nodes(nodes: Sequence[Node], images: Iterable[str]) -> dict[str, str]:
    """The digests of images that nodes have under their tags, by what the nodes say; the first node counts."""
    found: dict[str, str] = {}
    for image in images:
        for node in nodes:
            for names in node.image_names:
                digest = next(filter(None, (digest_in(name, image) for name in names)), None)
                if image in names and digest:
                    found.setdefault(image, digest)
    return found


def digest_in(answer: str, image: str) -> str | None:
    """The digest in what a node calls an image, such as docker.io/library/postgres@sha256:…; None where it has none.

    An image that was imported has none, and one that is known under another name has another one.
    """
    match = _PINNED.fullmatch(answer)
    return match[2] if match and match[1] == _without_tag(image) else None


def can_be_pinned(rendering: Rendering) -> set[str]:
    """The images that are named by a tag, and by pods of the rendering alone.

    Those that Airflow starts pods from are named in its settings, where a digest has no place: localhost/… or yours.
    """
    named = {image for _, pod in pod_templates(rendering) for image in images_of(pod)}
    return {image for image in named - launched_images(rendering) if not is_local(image) and "@" not in image}


def pin(rendering: Rendering, digests: Mapping[str, str]) -> None:
    """Have pods name the digests beside the tags, which stay for those who read them."""
    pinnable = can_be_pinned(rendering)
    pins = {image: f"{image}@{digest}" for image, digest in digests.items() if image in pinnable}
    for _, pod in pod_templates(rendering):
        for container in _containers(pod):
            container["image"] = pins.get(container["image"], container["image"])
    rendering.images[:] = [pins.get(image, image) for image in rendering.images]


def _containers(pod: Object) -> list[Object]:
    return [container for kind in ("initContainers", "containers") for container in pod.get(kind) or []]


def _without_tag(image: str) -> str:
    folder, slash, name = image.partition("@")[0].rpartition("/")
    return f"{folder}{slash}{name.partition(':')[0]}"
