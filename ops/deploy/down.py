"""`down`: deletes the workloads. Volumes, Secrets and their namespaces stay without `--delete-data`."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from ops.cluster.console import Console, DeployError
from ops.cluster.kubectl import NAMESPACE, NAMESPACES, Kubectl, Object, name_of
from ops.cluster.nodes import DATA_LABEL, read_nodes
from ops.deploy.data.volumes import OWNERS, data_folders, data_home, delete_folders, live_volumes, with_claims
from ops.deploy.images.bundle import Bundle
from ops.deploy.manifests.overlays import DEFAULT, deployed_overlay, folder_of, given_overlay
from ops.deploy.manifests.pruning import obsolete_objects
from ops.deploy.manifests.rendering import STAGES, Rendering, render, set_data_folder
from ops.deploy.manifests.traefik import fit
from ops.deploy.options import Options

KEPT = ("Namespace", "PersistentVolume", "PersistentVolumeClaim", "Secret")
"""Kinds without which the data cannot be read again."""
_KEPT_PARTS = ("foundation", "storage")


def down(console: Console, options: Options, kubectl: Kubectl, bundle: Bundle | None) -> None:
    """Remove the deployment. Raises DeployError."""
    root, bundled = (bundle.root, bundle.overlay) if bundle else (None, None)
    overlay = given_overlay(options.overlay, root) or bundled or deployed_overlay(kubectl) or DEFAULT
    rendering = render(kubectl, folder_of(overlay, root))
    fit(kubectl, rendering)
    live = live_volumes(kubectl, [*OWNERS, *rendering.volumes()]) if options.delete_data else {}
    folder = options.data_folder or data_home(live, rendering.volumes())
    if folder:
        set_data_folder(rendering, PurePosixPath(folder))
    steps = _steps(kubectl, rendering, live, data=options.delete_data)
    paths = data_folders(live, rendering.volumes()) if options.delete_data else []
    if options.dry_run:
        lines = [f"  delete {name_of(item)}" for _, objects in steps for item in objects]
        console.show("\n".join(["Would, in this order:", *lines, *(f"  delete {path}" for path in paths)]))
        return
    if options.delete_data:
        _confirm(console, options, paths)
    for parts, objects in steps:
        if objects:
            console.say(f"Removing {parts}: {', '.join(map(name_of, objects))}")
            kubectl.delete(objects, options.timeout)
        if parts == "airflow":
            # Pods of tasks, which no workload owns.
            wait = f"--timeout={options.timeout:.0f}s"
            kubectl.run("delete", "pods", "--namespace", NAMESPACE, "--selector=dag_id", wait, seconds=0)
    if options.delete_data:
        _delete_data(console, kubectl, paths)
    else:
        console.say(
            f"Removed. Data, Secrets and the namespaces {', '.join(NAMESPACES)} stay: `scripts/apply-all.sh` brings all"
            " back, `down --delete-data` removes them."
        )


def _steps(
    kubectl: Kubectl, rendering: Rendering, live: Mapping[str, Object], *, data: bool
) -> list[tuple[str, list[Object]]]:
    """The steps of the deletion: a name, and the objects that are deleted together."""
    planned = {item["metadata"]["name"] for item in rendering.of_kind("PersistentVolume")}
    steps = []
    for stage in reversed(STAGES):
        parts = [part for part in stage if data or part not in _KEPT_PARTS]
        objects = objects_to_delete(rendering, parts, data=data)
        if "storage" in parts:
            objects += with_claims(item for name, item in live.items() if name not in planned)
        steps.append((", ".join(parts), objects))
        if "airflow" in parts:
            # Before the claims: the pod of an ended Job of restore.sh still holds one.
            steps.append(("what another overlay or a restore left", obsolete_objects(kubectl, rendering)))
    return steps


def objects_to_delete(rendering: Rendering, parts: Iterable[str], *, data: bool) -> list[Object]:
    """The objects of some parts that are deleted, those in a namespace first."""
    objects = [item for item in rendering.of_parts(*parts) if data or item["kind"] not in KEPT]
    return sorted(objects, key=lambda item: "namespace" not in item["metadata"])


def _confirm(console: Console, options: Options, paths: list[Path]) -> None:
    if os.geteuid() != 0:
        raise DeployError("Only root may delete the data folders: run this with sudo.")
    if not options.yes:
        console.show(f"This deletes all data for good, backups too: {', '.join(map(str, paths))}, and the Secrets.")
        console.confirm("delete", "Nothing was deleted.")


def _delete_data(console: Console, kubectl: Kubectl, paths: list[Path]) -> None:
    for node in read_nodes(kubectl):
        if node.has_data:
            kubectl.run("label", "node", node.name, f"{DATA_LABEL}-")
            if not node.is_this_machine:
                console.warn(f"The folders are on node {node.name}; delete them there: {', '.join(map(str, paths))}.")
                return
    delete_folders(console, paths)
    console.say("Removed, with all data.")
