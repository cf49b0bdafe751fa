"""The overlay as objects: rendered once, set to this machine, and divided into stages."""

import hashlib
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ops.cluster.console import DeployError
from ops.cluster.kubectl import OBSERVABILITY, Kubectl, Object, name_of

STAGES = (
    ("foundation",),
    ("storage", "source", "mssql", "metadata", "traefik", OBSERVABILITY),
    ("airflow",),
    ("backup",),
)
"""The parts in the order in which they are applied, those together that do not need each other."""
PARTS = tuple(part for parts in STAGES for part in parts)
PART_OF = "app.kubernetes.io/part-of"
DATA_FOLDER = PurePosixPath("/var/lib/etl-poc")
"""Where the manifests put the volumes."""
SOURCE = "source-postgres"
SOURCE_IS_NODE = "etl-poc/source-is-node"
PLACEHOLDER = "192.0.2.10"
"""The address in the manifests, which is no machine's (RFC 5737)."""
IMAGE_ID = "etl-poc/image-id"
FINGERPRINT = "etl-poc/fingerprint"
CONFIGURATION = "etl-poc/configuration"
CERTIFICATE = "etl-poc/certificate"
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
# Also in the pod template of the workers, which is text in a ConfigMap. A name without a tag is a placeholder.
_IMAGE = re.compile(r"""^\s*(?:-\s+)?(?:image|ETL_IMAGE):\s*["']?([^\s"']+[:@][^\s"'/]+)["']?\s*$""", re.MULTILINE)


@dataclass(frozen=True)
class Rendering:
    """The objects of an overlay, and the images that their pods take."""

    objects: list[Object]
    images: list[str]

    def of_kind(self, *kinds: str) -> list[Object]:
        """The objects of some kinds."""
        return [item for item in self.objects if item["kind"] in kinds]

    def of_parts(self, *parts: str) -> list[Object]:
        """The objects that are applied with some parts, and go with them.

        Network policies all come with the first: what runs already would else be cut off by the default until its own
        part is applied, and what ends would be before it has.
        """
        return [
            item for item in self.objects if (PARTS[0] if item["kind"] == "NetworkPolicy" else _part(item)) in parts
        ]

    def volumes(self) -> dict[str, Path]:
        """The local PersistentVolumes by name, and where they lie on their node."""
        volumes = self.of_kind("PersistentVolume")
        return {v["metadata"]["name"]: Path(v["spec"]["local"]["path"]) for v in volumes if "local" in v["spec"]}


def render(kubectl: Kubectl, overlay: Path) -> Rendering:
    """Render an overlay. Raises DeployError where an object belongs to no known part."""
    if not overlay.is_dir():
        raise DeployError(f"There is no overlay {overlay}; the folders in {overlay.parent} are what can be given.")
    text, objects = kubectl.render(str(overlay))
    for item in objects:
        if _part(item) not in PARTS:
            raise DeployError(f"{name_of(item)} lacks a label {PART_OF} with one of {', '.join(PARTS)}.")
    return Rendering(objects, images_in(text))


def set_source_address(rendering: Rendering, address: str, *, is_node: bool) -> None:
    """Point the Service of the operational database at an address, and open the way there.

    `is_node`: nobody gave the address, it is that of the node with the data, and follows it when it changes.
    """
    ports: list[Object] = []
    for item in rendering.of_kind("EndpointSlice"):
        if item["metadata"]["name"] == SOURCE:
            if is_node:
                item["metadata"].setdefault("annotations", {})[SOURCE_IS_NODE] = "true"
            item["addressType"] = f"IPv{ipaddress.ip_address(address).version}"
            for endpoint in item["endpoints"]:
                endpoint["addresses"] = [address]
            ports += [{"port": port["port"]} for port in item.get("ports") or []]
    for item in rendering.of_kind("NetworkPolicy"):
        if item["metadata"]["name"] == SOURCE:
            block = {"cidr": str(ipaddress.ip_network(address))}
            item["spec"]["egress"] = [{"to": [{"ipBlock": block}], "ports": ports}]


def set_data_folder(rendering: Rendering, folder: PurePosixPath) -> None:
    """Put the volumes that lie in the default folder into another one."""
    for item in rendering.of_kind("PersistentVolume"):
        path = PurePosixPath(item["spec"].get("local", {}).get("path", ""))
        if path.is_relative_to(DATA_FOLDER):
            item["spec"]["local"]["path"] = str(folder / path.relative_to(DATA_FOLDER))


def mark(rendering: Rendering, image_ids: Mapping[str, str]) -> None:
    """Write into pod templates which build of an image and which settings they take, so that a change is rolled out.

    A tag stays the same when its image is built anew, and so does the name of a ConfigMap. A Job cannot be changed: a
    fingerprint of it tells whether the one that is there must be replaced.
    """
    settings = {item["metadata"]["name"]: item.get("data") for item in rendering.of_kind("ConfigMap")}
    for item in rendering.of_kind(*WORKLOADS, "Job"):
        template = item["spec"]["template"]
        annotations = template.setdefault("metadata", {}).setdefault("annotations", {})
        ids = sorted({image_ids[image] for image in images_of(template["spec"]) if image in image_ids})
        if ids:
            annotations[IMAGE_ID] = " ".join(ids)
        text = json.dumps(template["spec"])
        annotations[CONFIGURATION] = _digest({name: data for name, data in settings.items() if f'"{name}"' in text})
    for item in rendering.of_kind("Job"):
        item["metadata"].setdefault("annotations", {})[FINGERPRINT] = _digest(item["spec"])


def mark_certificate(rendering: Rendering, secret: str, certificate: str) -> None:
    """Have what shows a certificate restarted where it is another one: servers read it when they start."""
    for item in rendering.of_kind(*WORKLOADS):
        template = item["spec"]["template"]
        volumes = template["spec"].get("volumes") or []
        if any(volume.get("secret", {}).get("secretName") == secret for volume in volumes):
            template.setdefault("metadata", {}).setdefault("annotations", {})[CERTIFICATE] = _digest(certificate)


def steps(rendering: Rendering) -> Iterator[tuple[str, list[Object]]]:
    """What is applied together and waited for before the next.

    Jobs come after the servers that they need and before Airflow's, which need what they make.
    """
    foundation, needed, airflow, backup = (rendering.of_parts(*parts) for parts in STAGES)
    jobs = [item for item in needed if item["kind"] == "Job"]
    servers = [item for item in airflow if item["kind"] in WORKLOADS]
    divided = {
        "foundation": foundation,
        "databases and observability": [item for item in needed if item not in jobs],
        "preparations": jobs + [item for item in airflow if item not in servers],
        "airflow": servers,
        "backup": backup,
    }
    yield from ((name, objects) for name, objects in divided.items() if objects)


def pod_templates(rendering: Rendering) -> Iterator[tuple[Object, Object]]:
    """Each workload, Job and CronJob with the specification of its pods."""
    for item in rendering.of_kind(*WORKLOADS, "Job", "CronJob"):
        job = item["spec"].get("jobTemplate", item)
        yield item, job["spec"]["template"]["spec"]


def is_observability(item: Object) -> bool:
    """Whether an object collects or shows logs and metrics: Airflow runs without it."""
    return _part(item) == OBSERVABILITY


def images_in(text: str) -> list[str]:
    """The images that rendered YAML names."""
    return sorted(set(_IMAGE.findall(text)))


def containers_of(pod: Mapping[str, Any]) -> list[Object]:
    """A pod's containers, those that prepare it first."""
    return [container for kind in ("initContainers", "containers") for container in pod.get(kind) or []]


def images_of(pod: Mapping[str, Any]) -> list[str]:
    """The images of a pod's containers."""
    return [container["image"] for container in containers_of(pod)]


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _part(item: Object) -> str | None:
    labels: dict[str, str] = item["metadata"].get("labels") or {}
    return labels.get(PART_OF)
