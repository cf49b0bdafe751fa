"""What must be so before anything is changed: every problem in one sentence, and all of them at once."""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ops.cluster.console import DeployError
from ops.cluster.kubectl import NAMESPACE, Kubectl, Object
from ops.cluster.names import PLACEHOLDER, SOURCE
from ops.cluster.nodes import choose_data_node, read_nodes
from ops.cluster.objects import endpoint_addresses
from ops.cluster.secret_keys import SOURCE_KEY, Key
from ops.deploy.data import volumes
from ops.deploy.data.disk import disk_problems
from ops.deploy.images import digests
from ops.deploy.images.bundle import Bundle
from ops.deploy.images.images import name_on_node
from ops.deploy.images.preflight import survey_images
from ops.deploy.machine import machine_problems, port_warnings
from ops.deploy.manifests import trust
from ops.deploy.manifests.identity import survey_identity
from ops.deploy.manifests.launched_pods import allow_images_before
from ops.deploy.manifests.network import (
    read_api_servers,
    read_networks,
    set_api_servers,
    set_pods_network,
    source_problems,
)
from ops.deploy.manifests.overlays import DEFAULT, deployed_overlay, folder_of, given_overlay, remember
from ops.deploy.manifests.rendering import SOURCE_IS_NODE, render, set_data_folder, set_source_address
from ops.deploy.options import Options
from ops.deploy.secrets import secrets
from ops.deploy.secrets.certificates import certificate_problems
from ops.deploy.survey import Survey

OLDEST_KUBERNETES = (1, 30)


def survey(options: Options, kubectl: Kubectl, bundle: Bundle | None) -> Survey:
    """Look at the cluster, the overlay and the machine. Changes nothing."""
    found = Survey()
    found.source_password = _source_password(options, found.problems)
    # Out of the environment, as that password is.
    found.oidc_secret = os.environ.pop("OIDC_CLIENT_SECRET", None) or None
    _survey_overlay(found, options, kubectl, bundle)
    _survey_cluster(found, options, kubectl, bundle)
    survey_identity(found)
    survey_images(found, options, bundle)
    if not found.nodes or any(node.is_this_machine for node in found.nodes):
        images, there = (
            set(map(name_on_node, found.rendering.images)),
            found.this_node.images if found.this_node else frozenset(),
        )
        missing = len(images - there) / max(1, len(images))
        found.problems += disk_problems(found.rendering.volumes(), found.builder, missing=missing)
        found.problems += machine_problems()
        found.warnings += port_warnings(found.rendering)
    return found


def _survey_overlay(found: Survey, options: Options, kubectl: Kubectl, bundle: Bundle | None) -> None:
    if not shutil.which(kubectl.command[0]):
        found.problems.append("There is neither kubectl nor k3s on PATH: run scripts/install-k3s.sh first.")
        return
    before = None
    with contextlib.suppress(DeployError):  # a cluster that does not answer is told below
        before = deployed_overlay(kubectl)
    found.overlay = given_overlay(options, bundle) or before or DEFAULT
    if before and before != found.overlay:
        found.warnings.append(f"The overlay becomes {found.overlay}: what only {before} has is removed.")
    try:
        found.rendering = render(kubectl, folder_of(found.overlay, bundle))
    except DeployError as error:
        found.problems.append(str(error))
    remember(found.rendering, found.overlay)


def _survey_cluster(found: Survey, options: Options, kubectl: Kubectl, bundle: Bundle | None) -> None:
    if not shutil.which(kubectl.command[0]):
        return
    try:
        found.problems += _version_problems(kubectl)
    except DeployError as error:
        reason = str(error).splitlines()[-1]
        found.problems.append(
            f"kubectl cannot reach the cluster ({reason}): start it, set KUBECONFIG, or run scripts/install-k3s.sh."
        )
        return
    try:
        found.nodes = read_nodes(kubectl)
        found.data_node = choose_data_node(found.nodes)
        found.networks = read_networks(kubectl, found.nodes)
        set_api_servers(found.rendering.objects, read_api_servers(kubectl))
        set_pods_network(found.rendering.objects, found.networks.pods)
        allow_images_before(found.rendering, kubectl)
        _survey_digests(found, options, kubectl, bundle)
        found.secret_keys = secrets.existing_keys(kubectl)
        _survey_data(found, options, kubectl)
        _survey_source(found, options, kubectl)
        found.problems += certificate_problems(kubectl, found.certificates)
    except DeployError as error:
        found.problems.append(str(error))


def _survey_digests(found: Survey, options: Options, kubectl: Kubectl, bundle: Bundle | None) -> None:
    """Pin images by the digests of earlier runs, else by those that nodes list, the data node first."""
    if bundle:  # imported images have no registry digest; the bundle's checksums cover them
        return
    found.digests_before = digests.recorded(kubectl)
    pinnable = digests.can_be_pinned(found.rendering)
    if options.new_digests:
        return
    nodes = sorted(found.nodes, key=lambda node: node != found.data_node)
    found.digests = digests.on_nodes(nodes, pinnable)
    found.digests |= {image: digest for image, digest in found.digests_before.items() if image in pinnable}
    digests.pin(found.rendering, found.digests)


def _version_problems(kubectl: Kubectl) -> Iterator[str]:
    server = json.loads(kubectl.run("version", "--output=json"))["serverVersion"]
    version = int(server["major"]), int(server["minor"].rstrip("+"))
    if version < OLDEST_KUBERNETES:
        now, oldest = (".".join(map(str, one)) for one in (version, OLDEST_KUBERNETES))
        yield f"Kubernetes is {now}, and {oldest} is the oldest that will do: upgrade it."


def _survey_data(found: Survey, options: Options, kubectl: Kubectl) -> None:
    """Where the volumes are: a PersistentVolume cannot be moved, so what is there counts."""
    live = volumes.live_volumes(kubectl, found.rendering.volumes())
    there = {path.parent for path in volumes.local_folders(live).values()}
    if options.data_folder and there - {options.data_folder}:
        found.problems.append(
            f"The volumes lie in {there.pop()} and cannot be moved to {options.data_folder}: leave --data-folder out."
        )
    folder = options.data_folder or next(iter(there), None)
    if folder:
        set_data_folder(found.rendering, PurePosixPath(folder))
    found.problems += _missing_folders(found, live)
    local = found.rendering.volumes()
    if not found.data_node or not local:
        return
    if not found.has_data_here:
        commands = "; ".join(volumes.folder_commands(local))
        found.warnings.append(
            f"The data lies on node {found.data_node.name}. If it is new there, run on it: {commands}"
        )
        return
    if os.geteuid() != 0:
        found.problems.append("Only root may look after the data folders: run this with sudo.")
        return
    found.problems += _password_problems(found.secret_keys, local)


def _missing_folders(found: Survey, live: dict[str, Object]) -> Iterator[str]:
    """Folders that had data and are not there: made anew they would begin with empty databases."""
    for name, path in volumes.local_folders(live).items():
        used = live[name].get("status", {}).get("phase") in ("Bound", "Released")
        if used and found.has_data_here and not path.exists():
            command = next(iter(volumes.folder_commands({name: path})), f"mkdir {path}")
            yield (
                f"{path} is not there, and PersistentVolume {name} has data in it: is a disk not mounted (`findmnt`,"
                f" /etc/fstab)? Where the data is lost: `{command}`, then restore a backup."
            )


def _password_problems(there: set[Key], local: dict[str, Path]) -> Iterator[str]:
    """A database keeps the password of its first start: data whose password is gone must not get another."""
    for part, key in secrets.GUARDS.items():
        folder = local.get(f"etl-poc-{part}")
        if folder is None or key in there or key in secrets.read_kept(folder.parent):
            continue
        if folder.is_dir() and any(folder.iterdir()):
            yield (
                f"{folder} holds data, but its password (Secret {key[0]}, key {key[1]}) is gone: restore the Secret"
                f" or {folder.parent / secrets.KEPT_FILE} from a backup, or move the folder away."
            )


def _survey_source(found: Survey, options: Options, kubectl: Kubectl) -> None:
    """Where the operational database is, and whether its password is known."""
    live = kubectl.get("endpointslice", SOURCE, "--namespace", NAMESPACE)
    now = endpoint_addresses(live or {})
    follows = (live or {}).get("metadata", {}).get("annotations", {}).get(SOURCE_IS_NODE) == "true"
    before = next((address for address in now if address != PLACEHOLDER), "")
    node = found.data_node.address if found.data_node else ""
    found.source_address = options.source_address or ("" if follows else before) or node
    if follows and before and found.source_address != before:
        found.warnings.append(
            f"The operational Postgres was taken to be on the node with the data, at {before}, and is looked for at"
            f" {found.source_address} from now on."
        )
    if found.source_address:
        is_node = not options.source_address and (follows or not before)
        set_source_address(found.rendering, found.source_address, is_node=is_node)
        found.problems += source_problems(found.source_address, found.networks)
    found.trust = trust.choose_trust(options, kubectl)
    trust.lay_over(found.rendering, found.trust, found.source_address)
    found.warnings += trust.tls_warnings(found.rendering)
    if found.source_password is None and SOURCE_KEY not in found.secret_keys:
        found.asks_for_source_password = sys.stdin.isatty()
        if not found.asks_for_source_password:
            found.problems.append(
                "The password of the operational Postgres is not known: set SOURCE_PASSWORD (with sudo:"
                " `sudo --preserve-env=SOURCE_PASSWORD`), or give --source-password-file."
            )


def _source_password(options: Options, problems: list[str]) -> str | None:
    # Taken out of the environment, so that the programs that are started do not inherit it.
    given = os.environ.pop("SOURCE_PASSWORD", None)
    if options.source_password_file:
        try:
            given = options.source_password_file.read_text().rstrip("\r\n")
        except OSError as error:
            problems.append(f"--source-password-file {options.source_password_file}: {error.strerror}.")
            return None
    if given == "":
        problems.append("The password of the operational Postgres is empty; give the real one.")
    return given
