"""Problems that stop a deployment, and warnings: of the facts, the plan, and the machine that it is meant for."""

import os
from collections.abc import Iterator
from pathlib import Path

from ops.cluster.console import DeployError
from ops.cluster.names import UI_NAME
from ops.cluster.nodes import data_node_problems
from ops.cluster.secret_keys import OIDC_KEYS, Key
from ops.deploy.data import volumes
from ops.deploy.data.disk import disk_problems
from ops.deploy.images.bundle import Bundle
from ops.deploy.images.images import name_on_node
from ops.deploy.machine import machine_problems, port_warnings
from ops.deploy.manifests import trust
from ops.deploy.manifests.identity import identity_problems, identity_warnings, settings_of
from ops.deploy.manifests.network import source_problems
from ops.deploy.options import Options
from ops.deploy.preflight.facts import Facts
from ops.deploy.preflight.images import image_problems, image_warnings
from ops.deploy.preflight.plan import Plan, is_source_password_missing, live_data_folders
from ops.deploy.secrets import secrets
from ops.deploy.secrets.certificates import certificate_problems

OLDEST_KUBERNETES = (1, 30)


def find_problems(options: Options, facts: Facts, plan: Plan, bundle: Bundle | None) -> Iterator[str]:
    """Every problem, each as a sentence."""
    yield from facts.problems
    yield from _version_problems(facts)
    if facts.is_complete:
        yield from data_node_problems(facts.nodes)
        yield from _data_problems(options, facts, plan)
        if plan.source_address:
            yield from source_problems(plan.source_address, facts.networks)
        if is_source_password_missing(facts) and not facts.can_ask:
            yield (
                "The password of the operational Postgres is not known: set SOURCE_PASSWORD (with sudo:"
                " `sudo --preserve-env=SOURCE_PASSWORD`), or give --source-password-file."
            )
        yield from certificate_problems(plan.certificates, {name for name, _ in facts.secret_keys})
    has_secret = bool(plan.oidc_secret) or facts.secret_keys.issuperset(OIDC_KEYS)
    settings = settings_of(plan.rendering)
    yield from identity_problems(settings, facts.discovery, plan.trust.get(UI_NAME, ""), has_secret=has_secret)
    yield from image_problems(options, plan, bundle)
    if not facts.nodes or facts.is_node:
        images = set(map(name_on_node, plan.rendering.images))
        missing = len(images - (plan.this_node.images if plan.this_node else frozenset())) / max(1, len(images))
        yield from disk_problems(plan.rendering.volumes(), plan.builder, missing=missing)
        yield from machine_problems()


def find_warnings(options: Options, facts: Facts, plan: Plan, bundle: Bundle | None) -> Iterator[str]:
    """Everything that does not stop the deployment and has to be known, as sentences."""
    if facts.overlay_before and facts.overlay_before != plan.overlay:
        yield f"The overlay becomes {plan.overlay}: what only {facts.overlay_before} has is removed."
    if plan.source_before and plan.source_address != plan.source_before:
        yield (
            f"The operational Postgres was taken to be on the node with the data, at {plan.source_before}, and is"
            f" looked for at {plan.source_address} from now on."
        )
    local = plan.rendering.volumes()
    if plan.data_node and local and not plan.has_data_here:
        commands = "; ".join(volumes.folder_commands(local))
        yield f"The data lies on node {plan.data_node.name}. If it is new there, run on it: {commands}"
    if facts.is_complete:
        yield from trust.tls_warnings(plan.rendering)
    yield from identity_warnings(settings_of(plan.rendering), facts.discovery)
    yield from image_warnings(options, plan, bundle)
    if not facts.nodes or facts.is_node:
        yield from port_warnings(plan.rendering)


def _version_problems(facts: Facts) -> Iterator[str]:
    if facts.version and facts.version < OLDEST_KUBERNETES:
        now, oldest = (".".join(map(str, one)) for one in (facts.version, OLDEST_KUBERNETES))
        yield f"Kubernetes is {now}, and {oldest} is the oldest that will do: upgrade it."


def _data_problems(options: Options, facts: Facts, plan: Plan) -> Iterator[str]:
    there = live_data_folders(facts)
    if options.data_folder and there - {options.data_folder}:
        yield f"The volumes lie in {there.pop()} and cannot be moved to {options.data_folder}: leave --data-folder out."
    local = plan.rendering.volumes()
    if not plan.has_data_here:
        return
    yield from _missing_folders(facts)
    if local and os.geteuid() != 0:
        yield "Only root may look after the data folders: run this with sudo."
    elif local:
        yield from _password_problems(facts.secret_keys, local)


def _missing_folders(facts: Facts) -> Iterator[str]:
    """Folders that had data and are missing: created anew, they would begin with empty databases."""
    for name, path in volumes.local_folders(facts.volumes).items():
        used = facts.volumes[name].get("status", {}).get("phase") in ("Bound", "Released")
        if used and not path.exists():
            command = next(iter(volumes.folder_commands({name: path})), f"mkdir {path}")
            yield (
                f"{path} is not there, and PersistentVolume {name} has data in it: is a disk not mounted (`findmnt`,"
                f" /etc/fstab)? Where the data is lost: `{command}`, then restore a backup."
            )


def _password_problems(there: set[Key], local: dict[str, Path]) -> Iterator[str]:
    """A database keeps the password of its first start: data whose password is lost must not get another."""
    for part, key in secrets.GUARDS.items():
        folder = local.get(f"etl-poc-{part}")
        if folder is None or key in there:
            continue
        try:
            if key in secrets.read_kept(folder.parent):
                continue
        except DeployError as error:
            yield str(error)
            continue
        if folder.is_dir() and any(folder.iterdir()):
            yield (
                f"{folder} holds data, but its password (Secret {key[0]}, key {key[1]}) is gone: restore the Secret"
                f" or {folder.parent / secrets.KEPT_FILE} from a backup, or move the folder away."
            )
