"""`up`: installs or updates the deployment."""

import getpass
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ops.cluster.console import Console, DeployError
from ops.cluster.images import is_local
from ops.cluster.kubectl import Kubectl, name_of
from ops.cluster.names import UI_NAME
from ops.cluster.nodes import DATA_LABEL
from ops.cluster.pod_problems import show_pod_problems
from ops.cluster.secret_keys import OIDC_KEYS, SOURCE_KEY
from ops.deploy import final_checks
from ops.deploy.data.disk import show_disk
from ops.deploy.data.volumes import free_released, make_folders, missing_folders
from ops.deploy.first_run import first_run
from ops.deploy.images import digests
from ops.deploy.images.builders import choose_builder
from ops.deploy.images.bundle import Bundle, Project, write_bundle
from ops.deploy.images.images import Importing, build_images, import_images, importing_from, own_images
from ops.deploy.images.platforms import this_platform
from ops.deploy.images.pulling import Pull, plan_pulls, pull_images
from ops.deploy.manifests import traefik, trust
from ops.deploy.manifests.overlays import DEFAULT, ROOT, folder_of, given_overlay
from ops.deploy.manifests.pruning import obsolete_objects, prune
from ops.deploy.manifests.rendering import WORKLOADS, is_observability, mark, mark_certificate, render, steps
from ops.deploy.manifests.rollout import NotReadyError, apply_and_wait, wait_until_ready
from ops.deploy.options import Options
from ops.deploy.preflight.facts import read_facts
from ops.deploy.preflight.plan import Plan, make_plan
from ops.deploy.preflight.problems import find_problems, find_warnings
from ops.deploy.report import show_access, show_workloads
from ops.deploy.secrets.certificates import SQL_SERVER, ensure_certificate
from ops.deploy.secrets.secrets import ensure_secrets

OBSERVABILITY_SECONDS = 120.0
"""The wait for observability once Airflow runs: its images are there, and it started before Airflow."""


NOT_ALL_READY = 3
"""The exit code where Airflow is deployed, and runs."""


class NotAllReadyError(DeployError):
    """Airflow is deployed, but something that it does not need is not ready."""

    exit_code = NOT_ALL_READY


def up(console: Console, options: Options, kubectl: Kubectl, bundle: Bundle | None) -> None:
    """Install or update. Raises DeployError, after printing problems of pods."""
    console.say("Checking the machine and the cluster …")
    facts = read_facts(options, kubectl, bundle)
    plan = make_plan(options, facts, bundle)
    console.say(f"The overlay is {plan.overlay}.")
    for warning in find_warnings(options, facts, plan, bundle):
        console.warn(warning)
    if options.dry_run:
        if plan.nodes:
            traefik.fit(kubectl, plan.rendering)
        _show_plan(console, options, kubectl, plan, bundle)
    if problems := list(find_problems(options, facts, plan, bundle)):
        raise DeployError("\n".join(["This stands in the way:", *(f"  * {problem}" for problem in problems)]))
    if options.dry_run:
        return
    if plan.asks_for_source_password:
        password = getpass.getpass("Password of the operational Postgres (user orders): ")
        plan = replace(plan, source_password=password)
    ids = _get_images(console, options, kubectl, plan, bundle)
    traefik.await_kinds(console, kubectl, plan.rendering)
    for warning in traefik.fit(kubectl, plan.rendering):
        console.warn(warning)
    try:
        _apply(console, options, kubectl, plan, bundle, ids)
        if options.wait_for_first_run:
            first_run(console, kubectl, options.timeout)
    except DeployError:
        show_pod_problems(console, kubectl)
        raise
    lacking = _await_observability(console, options, kubectl, plan)
    show_workloads(console, kubectl)
    if plan.has_data_here:
        show_disk(console, plan.rendering.volumes(), plan.builder)
    if lacking:
        show_pod_problems(console, kubectl)
    show_access(console, kubectl, plan.rendering, plan.chosen_node.address, plan.trust.get(UI_NAME))
    final_checks.run_final_checks(console, kubectl, plan.rendering, plan.chosen_node, plan.trust.get(UI_NAME, ""))
    if not options.wait_for_first_run:
        console.show("Next:      switch on orders_etl in Airflow, or run this again with --wait-for-first-run.")
    if lacking:
        raise NotAllReadyError(
            f"Airflow is deployed{' and has run orders_etl' if options.wait_for_first_run else ''}, but not all that"
            f" collects and shows its logs and metrics: {lacking} Why is above; `scripts/doctor.sh` looks again."
        )


def make_bundle(console: Console, options: Options, kubectl: Kubectl, target: Path) -> None:
    """Write the bundle for a machine without a network. Needs no cluster."""
    overlay = folder_of(given_overlay(options.overlay) or DEFAULT)
    project = Project(ROOT, overlay, render(kubectl, overlay))
    if options.dry_run:
        console.show("\n".join([f"Would write {target} with", *(f"  {image}" for image in project.images)]))
        return
    write_bundle(console, options, choose_builder(options.builder), project, target)


def _pulls(options: Options, plan: Plan, bundle: Bundle | None) -> list[Pull]:
    imported = set(bundle.images) if bundle else set()
    return plan_pulls(plan.rendering, plan.nodes, plan.data_node, imported, again=options.new_digests)


def _await_observability(console: Console, options: Options, kubectl: Kubectl, plan: Plan) -> str | None:
    """Wait for what Airflow does not need; returns what is not ready then, as a sentence."""
    awaited = [item for item in plan.rendering.of_kind(*WORKLOADS) if is_observability(item)]
    if not awaited:
        return None
    console.say(f"Looking at observability, which began to start before Airflow: {', '.join(map(name_of, awaited))}")
    try:
        wait_until_ready(console, kubectl, awaited, min(options.timeout, OBSERVABILITY_SECONDS))
    except NotReadyError as error:
        return str(error)
    return None


def import_bundle(console: Console, options: Options, bundle: Bundle) -> None:
    """Import a bundle's images into this node, without access to the cluster. Raises DeployError."""
    if bundle.platform != this_platform():
        raise DeployError(f"The images are for {bundle.platform}, and this machine is {this_platform()}.")
    if options.dry_run:
        console.show("\n".join(["Would import and pin", *(f"  {image}" for image in bundle.images)]))
        return
    import_images(console, None, None, bundle.images, bundle.importing, options.import_command)


def _get_images(
    console: Console, options: Options, kubectl: Kubectl, plan: Plan, bundle: Bundle | None
) -> dict[str, str]:
    """Build and import; returns the IDs of local images, whose tag stays the same for many builds."""
    ids: dict[str, str] = {}
    importing: Importing | None = None
    if bundle:
        ids, importing = bundle.images, bundle.importing
    elif plan.builder:
        ids = build_images(console, plan.builder, plan.rendering, ROOT, options.ca_file, pull=options.pull)
        importing = importing_from(plan.builder)
    if importing and options.import_command:
        import_images(console, kubectl, plan.this_node, ids, importing, options.import_command)
    return {image: ids[image] for image in ids if is_local(image)}


def _apply(
    console: Console,
    options: Options,
    kubectl: Kubectl,
    plan: Plan,
    bundle: Bundle | None,
    ids: Mapping[str, str],
) -> None:
    node, volumes = plan.chosen_node, plan.rendering.volumes()
    if not node.has_data:
        kubectl.run("label", "node", node.name, f"{DATA_LABEL}=true")
        console.say(f"The data lies on node {node.name} from now on (label {DATA_LABEL}).")
    if plan.has_data_here:
        make_folders(console, volumes)
    free_released(console, kubectl, volumes)
    kept = next((path.parent for path in volumes.values()), None) if plan.has_data_here else None
    for number, (part, objects) in enumerate(steps(plan.rendering)):
        apply_and_wait(console, kubectl, part, objects, options.timeout)
        if number == 0:  # the namespace exists
            given = {SOURCE_KEY: plan.source_password} | dict.fromkeys(OIDC_KEYS, plan.oidc_secret)
            ensure_secrets(console, kubectl, given, kept)
            _ensure_trust(console, kubectl, plan)
            pulled = pull_images(console, kubectl, _pulls(options, plan, bundle))
            if not bundle:
                _pin(console, kubectl, plan, pulled.digests)
            mark(plan.rendering, ids)  # after pinning: the fingerprint of a Job includes its digests
    prune(console, kubectl, plan.rendering, options.timeout)


def _pin(console: Console, kubectl: Kubectl, plan: Plan, pulled: Mapping[str, str]) -> None:
    """Pin pulled images and record all digests."""
    pinnable = digests.can_be_pinned(plan.rendering)
    came = plan.digests_before | dict(pulled)
    now = plan.digests | {image: digest for image, digest in came.items() if image in pinnable}
    digests.pin(plan.rendering, now)
    digests.record(console, kubectl, plan.digests_before, now)
    for image in sorted(pinnable - now.keys()):
        console.warn(f"{image} is not pinned: it was imported or not pulled, so its digest is not known.")


def _ensure_trust(console: Console, kubectl: Kubectl, plan: Plan) -> None:
    """Create missing certificates, and write the TLS settings into the ConfigMap etl-trust."""
    settings = {key: value for key, value in plan.trust.items() if key != trust.MSSQL_CA}
    for wanted in plan.certificates:
        made = ensure_certificate(console, kubectl, wanted)
        if wanted is SQL_SERVER:
            mark_certificate(plan.rendering, wanted.secret, made["tls.crt"])
            settings[trust.MSSQL_CA] = made.get("ca.crt") or made["tls.crt"]
    kubectl.apply([trust.as_object(settings)])


def _show_plan(console: Console, options: Options, kubectl: Kubectl, plan: Plan, bundle: Bundle | None) -> None:
    """Print what would be done, in order."""
    rendering, lines = plan.rendering, []
    builder = plan.builder.name if plan.builder else "a builder"
    local = sorted(bundle.images) if bundle else list(own_images(rendering.images))
    lines += [f"build {image} with {builder}" for image in local if not bundle]
    if options.import_command:
        lines += [f"import {image} into the node where it lacks it" for image in local]
    if plan.data_node and not plan.data_node.has_data:
        lines.append(f"label node {plan.data_node.name} {DATA_LABEL}=true")
    if plan.has_data_here:
        lines += [f"make {path}" for path in missing_folders(rendering.volumes()).values()]
    lines.append("generate the passwords and certificates that are missing")
    lines += [f"pull {pull.image} onto {pull.node}" for pull in _pulls(options, plan, bundle)]
    for part, objects in steps(rendering):
        lines.append(f"apply {part}: {', '.join(map(name_of, objects))}")
    lines += [f"delete {name_of(item)}" for item in (obsolete_objects(kubectl, rendering) if plan.nodes else [])]
    if options.wait_for_first_run:
        lines.append("run orders_etl and show its reconciliation")
    console.show("\n".join(["Would, in this order:", *(f"  {line}" for line in lines)]))
