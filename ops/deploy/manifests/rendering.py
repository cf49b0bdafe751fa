"""The overlay as objects: rendered once, adapted to the cluster, and divided into stages."""

import hashlib
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ops.cluster.console import DeployError
from ops.cluster.kubectl import OBSERVABILITY, Kubectl, Object, name_of
from ops.cluster.names import PART_OF, SOURCE
from ops.cluster.objects import images_of, labels_of

STAGES = (
    ("foundation",),
    ("storage", "source", "mssql", "metadata", "traefik", OBSERVABILITY),
    ("airflow",),
    ("backup",),
)
"""The parts in the order in which they are applied; parts of one stage do not need each other."""
PARTS = tuple(part for parts in STAGES for part in parts)
DATA_FOLDER = PurePosixPath("/var/lib/etl-poc")
"""The folder of the volumes in the manifests."""
_CONNECTIONS = "etl-connections"
SOURCE_IS_NODE = "etl-poc/source-is-node"
IMAGE_ID = "etl-poc/image-id"
FINGERPRINT = "etl-poc/fingerprint"
CONFIGURATION = "etl-poc/configuration"
CERTIFICATE = "etl-poc/certificate"
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
# Also in the pod template of the workers, which is text in a ConfigMap. A name without a tag is a placeholder.
_IMAGE = re.compile(r"""^\s*(?:-\s+)?(?:image|ETL_IMAGE):\s*["']?([^\s"']+[:@][^\s"'/]+)["']?\s*$""", re.MULTILINE)


@dataclass(frozen=True)
class Rendering:
    """The objects of an overlay, and the images of their pods."""

    objects: list[Object]
    images: list[str]

    def of_kind(self, *kinds: str) -> list[Object]:
        """The objects of some kinds."""
        return [item for item in self.objects if item["kind"] in kinds]

    @property
    def connections(self) -> list[dict[str, str]]:
        """The settings of source and sink, to be read or changed."""
        return [item["data"] for item in self.of_kind("ConfigMap") if item["metadata"]["name"] == _CONNECTIONS]

    @property
    def logs_in_by_token(self) -> bool:
        """Whether tokens of Entra ID log in to source or sink instead of passwords."""
        given = [data.get(name) for data in self.connections for name in ("SOURCE_AUTH", "SINK_AUTH")]
        return any(auth not in (None, "", "password") for auth in given)

    def of_parts(self, *parts: str) -> list[Object]:
        """The objects that are applied, and deleted, with some parts.

        All network policies belong to the first: the default policy would otherwise cut off running pods until their
        part is applied, and pods that still terminate.
        """
        return [
            item for item in self.objects if (PARTS[0] if item["kind"] == "NetworkPolicy" else _part(item)) in parts
        ]

    def volumes(self) -> dict[str, Path]:
        """The folders of the local PersistentVolumes, by name."""
        volumes = self.of_kind("PersistentVolume")
        return {v["metadata"]["name"]: Path(v["spec"]["local"]["path"]) for v in volumes if "local" in v["spec"]}


def render(kubectl: Kubectl, overlay: Path) -> Rendering:
    """Render an overlay. Raises DeployError if an object belongs to no known part."""
    if not overlay.is_dir():
        raise DeployError(f"There is no overlay {overlay}; the folders in {overlay.parent} are what can be given.")
    text, objects = kubectl.render(str(overlay))
    for item in objects:
        if _part(item) not in PARTS:
            raise DeployError(f"{name_of(item)} lacks a label {PART_OF} with one of {', '.join(PARTS)}.")
    return Rendering(objects, images_in(text))


def set_source_address(rendering: Rendering, address: str, *, is_node: bool) -> None:
    """Set the address of the source in its EndpointSlice and NetworkPolicy.

    `is_node`: the address was not given, but is that of the node with the data, and follows it when it changes.
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
    """Move the volumes of the default folder to another one."""
    for item in rendering.of_kind("PersistentVolume"):
        path = PurePosixPath(item["spec"].get("local", {}).get("path", ""))
        if path.is_relative_to(DATA_FOLDER):
            item["spec"]["local"]["path"] = str(folder / path.relative_to(DATA_FOLDER))


def mark(rendering: Rendering, image_ids: Mapping[str, str]) -> None:
    """Annotate pod templates with image IDs and a hash of their settings, so that a change is rolled out.

    The tag of a rebuilt image stays the same, and so does the name of a ConfigMap. A Job is immutable: its fingerprint
    shows whether the live one must be replaced.
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
    """Annotate pods with their certificate: servers read it at start, and restart for a new one."""
    for item in rendering.of_kind(*WORKLOADS):
        template = item["spec"]["template"]
        volumes = template["spec"].get("volumes") or []
        if any(volume.get("secret", {}).get("secretName") == secret for volume in volumes):
            template.setdefault("metadata", {}).setdefault("annotations", {})[CERTIFICATE] = _digest(certificate)


def steps(rendering: Rendering) -> Iterator[tuple[str, list[Object]]]:
    """The steps of a rollout: a name, and the objects that are applied and awaited together.

    Jobs come after the servers that they need, and before Airflow's servers, which need their results.
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


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _part(item: Object) -> str | None:
    return labels_of(item).get(PART_OF)
