"""`up`: from nothing, or from any earlier state, to what the overlay says."""

import getpass
from collections.abc import Mapping
from pathlib import Path

from ops.cluster.console import Console, DeployError
from ops.cluster.kubectl import Kubectl, name_of
from ops.cluster.nodes import DATA_LABEL, Node
from ops.cluster.pod_problems import show_troubles
from ops.deploy import closing
from ops.deploy.data.disk import show_disk
from ops.deploy.data.volumes import free_released, make_folders, missing_folders
from ops.deploy.first_run import first_run
from ops.deploy.images import digests
from ops.deploy.images.builders import choose_builder
from ops.deploy.images.bundle import Bundle, Project, write_bundle
from ops.deploy.images.images import Importing, build_images, import_images, importing_from, is_local, ours
from ops.deploy.images.platforms import this_platform
from ops.deploy.images.pulling import Pull, planned, pull_images
from ops.deploy.manifests import traefik, trust
from ops.deploy.manifests.overlays import DEFAULT, ROOT, folder_of, given_overlay
from ops.deploy.manifests.pruning import leftovers, prune
from ops.deploy.manifests.rendering import WORKLOADS, is_observability, mark, mark_certificate, render, steps
from ops.deploy.manifests.rollout import NotReadyError, apply_and_wait, wait_until_ready
from ops.deploy.options import Options
from ops.deploy.preflight import survey
from ops.deploy.report import show_access, show_workloads
from ops.deploy.secrets.certificates import SQL_SERVER, ensure_certificate
from ops.deploy.secrets.secrets import OIDC_KEYS, SOURCE_KEY, ensure_secrets
from ops.deploy.survey import Survey

OBSERVABILITY_SECONDS = 120.0
"""How long observability is waited for when Airflow runs: its images are there, and it has had all the time before."""


NOT_ALL_READY = 3
"""The exit code where Airflow is deployed, and runs."""


class NotAllReadyError(DeployError):
    """Airflow is deployed, and something that it does not need is not ready."""

    exit_code = NOT_ALL_READY


def up(console: Console, options: Options, kubectl: Kubectl, bundle: Bundle | None) -> None:
    """Bring the deployment up. Raises DeployError; what is wrong with pods is shown before."""
    console.say("Checking the machine and the cluster …")
    found = survey(options, kubectl, bundle)
    console.say(f"The overlay is {found.overlay}.")
    for warning in found.warnings:
        console.warn(warning)
    if options.dry_run:
        if found.nodes:
            traefik.fit(kubectl, found.rendering)
        _tell(console, options, kubectl, found, bundle)
    if found.problems:
        raise DeployError("\n".join(["This stands in the way:", *(f"  * {problem}" for problem in found.problems)]))
    if options.dry_run:
        return
    if found.asks_for_source_password:
        found.source_password = getpass.getpass("Password of the operational Postgres (user orders): ")
    ids = _get_images(console, options, kubectl, found, bundle)
    traefik.await_kinds(console, kubectl, found.rendering)
    for words in traefik.fit(kubectl, found.rendering):
        console.warn(words)
    try:
        _apply(console, options, kubectl, found, bundle, ids)
        if options.wait_for_first_run:
            first_run(console, kubectl, options.timeout)
    except DeployError:
        show_troubles(console, kubectl)
        raise
    lacking = _await_observability(console, options, kubectl, found)
    show_workloads(console, kubectl)
    if found.has_data_here:
        show_disk(console, found.rendering.volumes(), found.builder)
    if lacking:
        show_troubles(console, kubectl)
    show_access(console, kubectl, found.rendering, _data_node(found).address, found.trust.get(trust.UI_NAME))
    closing.try_all(console, kubectl, found.rendering, _data_node(found), found.trust.get(trust.UI_NAME, ""))
    if not options.wait_for_first_run:
        console.show("Next:      switch on orders_etl in Airflow, or run this again with --wait-for-first-run.")
    if lacking:
        raise NotAllReadyError(
            f"Airflow is deployed{' and has run orders_etl' if options.wait_for_first_run else ''}, but not all that"
            f" collects and shows its logs and metrics: {lacking} Why is above; `scripts/doctor.sh` looks again."
        )


def make_bundle(console: Console, options: Options, kubectl: Kubectl, target: Path) -> None:
    """Write the archive for a machine without a network. Needs no cluster."""
    overlay = folder_of(given_overlay(options) or DEFAULT)
    project = Project(ROOT, overlay, render(kubectl, overlay).images)
    if options.dry_run:
        console.show("\n".join([f"Would write {target} with", *(f"  {image}" for image in project.images)]))
        return
    write_bundle(console, options, choose_builder(options.builder), project, target)


def _pulls(options: Options, found: Survey, bundle: Bundle | None) -> list[Pull]:
    imported = set(bundle.images) if bundle else set()
    return planned(found.rendering, found.nodes, found.data_node, imported, again=options.new_digests)


def _await_observability(console: Console, options: Options, kubectl: Kubectl, found: Survey) -> str | None:
    """Wait a while for what Airflow does not need; returns what is not ready then, as a sentence."""
    awaited = [item for item in found.rendering.of_kind(*WORKLOADS) if is_observability(item)]
    if not awaited:
        return None
    console.say(f"Looking at observability, which began to start before Airflow: {', '.join(map(name_of, awaited))}")
    try:
        wait_until_ready(console, kubectl, awaited, min(options.timeout, OBSERVABILITY_SECONDS))
    except NotReadyError as error:
        return str(error)
    return None


def import_bundle(console: Console, options: Options, bundle: Bundle) -> None:
    """Import a bundle's images into this machine, a node that may not ask the cluster. Raises DeployError."""
    if bundle.platform != this_platform():
        raise DeployError(f"The images are for {bundle.platform}, and this machine is {this_platform()}.")
    if options.dry_run:
        console.show("\n".join(["Would import and pin", *(f"  {image}" for image in bundle.images)]))
        return
    import_images(console, None, None, bundle.images, bundle.importing, options.import_command)


def _get_images(
    console: Console, options: Options, kubectl: Kubectl, found: Survey, bundle: Bundle | None
) -> dict[str, str]:
    """Build and import; returns the IDs of the images that have a tag for many builds."""
    ids: dict[str, str] = {}
    importing: Importing | None = None
    if bundle:
        ids, importing = bundle.images, bundle.importing
    elif found.builder:
        images = found.rendering.images
        ids = build_images(console, found.builder, images, ROOT, options.ca_file, pull=options.pull)
        importing = importing_from(found.builder)
    if importing and options.import_command:
        import_images(console, kubectl, found.this_node, ids, importing, options.import_command)
    return {image: ids[image] for image in ids if is_local(image)}


def _apply(
    console: Console,
    options: Options,
    kubectl: Kubectl,
    found: Survey,
    bundle: Bundle | None,
    ids: Mapping[str, str],
) -> None:
    node, volumes = _data_node(found), found.rendering.volumes()
    if not node.has_data:
        kubectl.run("label", "node", node.name, f"{DATA_LABEL}=true")
        console.say(f"The data lies on node {node.name} from now on (label {DATA_LABEL}).")
    if found.has_data_here:
        make_folders(console, volumes)
    free_released(console, kubectl, volumes)
    kept = next((path.parent for path in volumes.values()), None) if found.has_data_here else None
    for number, (part, objects) in enumerate(steps(found.rendering)):
        apply_and_wait(console, kubectl, part, objects, options.timeout)
        if number == 0:  # the namespace is there
            given = {SOURCE_KEY: found.source_password} | dict.fromkeys(OIDC_KEYS, found.oidc_secret)
            ensure_secrets(console, kubectl, given, kept)
            _ensure_trust(console, kubectl, found)
            pulled = pull_images(console, kubectl, _pulls(options, found, bundle))
            if not bundle:
                _pin(console, kubectl, found, pulled.digests)
            mark(found.rendering, ids)  # after pinning: the fingerprint of a Job includes its digests
    prune(console, kubectl, found.rendering, options.timeout)


def _pin(console: Console, kubectl: Kubectl, found: Survey, pulled: Mapping[str, str]) -> None:
    """Pin the images that were pulled, and record all digests."""
    pinnable = digests.can_be_pinned(found.rendering)
    came = found.digests_before | dict(pulled)
    now = found.digests | {image: digest for image, digest in came.items() if image in pinnable}
    digests.pin(found.rendering, now)
    digests.record(console, kubectl, found.digests_before, now)
    for image in sorted(pinnable - now.keys()):
        console.warn(f"{image} is not pinned: it was imported or not pulled, so its digest is not known.")


def _ensure_trust(console: Console, kubectl: Kubectl, found: Survey) -> None:
    """The certificates that are missing, and whom the pods are to believe."""
    believed = {key: value for key, value in found.trust.items() if key != trust.MSSQL_CA}
    for wanted in found.certificates:
        shown = ensure_certificate(console, kubectl, wanted)
        if wanted is SQL_SERVER:
            mark_certificate(found.rendering, wanted.secret, shown["tls.crt"])
            believed[trust.MSSQL_CA] = shown.get("ca.crt") or shown["tls.crt"]
    kubectl.apply([trust.as_object(believed)])


def _tell(console: Console, options: Options, kubectl: Kubectl, found: Survey, bundle: Bundle | None) -> None:
    """What would be done, in its order."""
    rendering, lines = found.rendering, []
    builder = found.builder.name if found.builder else "a builder"
    local = sorted(bundle.images) if bundle else list(ours(rendering.images))
    lines += [f"build {image} with {builder}" for image in local if not bundle]
    if options.import_command:
        lines += [f"import {image} into the node where it lacks it" for image in local]
    if found.data_node and not found.data_node.has_data:
        lines.append(f"label node {found.data_node.name} {DATA_LABEL}=true")
    if found.has_data_here:
        lines += [f"make {path}" for path in missing_folders(rendering.volumes()).values()]
    lines.append("generate the passwords and certificates that are missing")
    lines += [f"pull {pull.image} onto {pull.node}" for pull in _pulls(options, found, bundle)]
    for part, objects in steps(rendering):
        lines.append(f"apply {part}: {', '.join(map(name_of, objects))}")
    lines += [f"delete {name_of(item)}" for item in (leftovers(kubectl, rendering) if found.nodes else [])]
    if options.wait_for_first_run:
        lines.append("run orders_etl and show its reconciliation")
    console.show("\n".join(["Would, in this order:", *(f"  {line}" for line in lines)]))


def _data_node(found: Survey) -> Node:
    if found.data_node is None:
        raise DeployError("The cluster has no node for the data.")  # told by the survey before
    return found.data_node
