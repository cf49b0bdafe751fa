"""Facts: what preflight reads of the cluster, the overlay, the machine and the environment."""

import contextlib
import json
import os
import shutil
import sys
from dataclasses import dataclass, field

from ops.cluster.console import DeployError
from ops.cluster.kubectl import NAMESPACE, Kubectl, Object
from ops.cluster.names import AIRFLOW_SETTINGS, SOURCE, TRUST
from ops.cluster.nodes import Node, read_nodes
from ops.cluster.secret_keys import Key
from ops.deploy.data import volumes
from ops.deploy.images import digests
from ops.deploy.images.builders import Builder, choose_builder
from ops.deploy.images.bundle import Bundle
from ops.deploy.images.images import own_images
from ops.deploy.images.platforms import root_is_shared
from ops.deploy.manifests.identity import Discovery, read_discovery, settings_of
from ops.deploy.manifests.network import ApiServers, Networks, read_api_servers, read_networks
from ops.deploy.manifests.overlays import DEFAULT, deployed_overlay, folder_of, given_overlay
from ops.deploy.manifests.rendering import Rendering, render
from ops.deploy.options import Options
from ops.deploy.secrets import secrets


@dataclass
class Facts:
    """Everything that was read, and in `problems` why something could not be."""

    overlay: str = DEFAULT
    overlay_before: str | None = None
    rendering: Rendering = field(default_factory=lambda: Rendering([], []))
    """The overlay as it is, without the settings of this cluster."""
    is_complete: bool = False
    """Whether the cluster answered everything."""
    version: tuple[int, int] | None = None
    """Of Kubernetes."""
    nodes: list[Node] = field(default_factory=list)
    networks: Networks = field(default_factory=Networks)
    api_servers: ApiServers = field(default_factory=ApiServers)
    settings: Object | None = None
    """The live ConfigMap with Airflow's settings."""
    digests: dict[str, str] = field(default_factory=dict)
    """The recorded digests of pulled images, by image and tag."""
    secret_keys: set[Key] = field(default_factory=set)
    volumes: dict[str, Object] = field(default_factory=dict)
    """The live PersistentVolumes."""
    source: Object = field(default_factory=dict)
    """The live EndpointSlice of the source."""
    trust: dict[str, str] = field(default_factory=dict)
    """The live TLS settings."""
    builder: Builder | None = None
    discovery: Discovery | None = None
    root_is_shared: bool = True
    can_ask: bool = False
    """Whether a person is at the terminal."""
    source_password: str | None = None
    oidc_secret: str | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def is_node(self) -> bool:
        """Whether this machine is a node of the cluster."""
        return any(node.is_this_machine for node in self.nodes)


def read_facts(options: Options, kubectl: Kubectl, bundle: Bundle | None) -> Facts:
    """Read everything. Passwords are taken out of the environment, so that child processes do not inherit them."""
    facts = Facts(root_is_shared=root_is_shared(), can_ask=sys.stdin.isatty())
    facts.source_password = _source_password(options, facts.problems)
    facts.oidc_secret = os.environ.pop("OIDC_CLIENT_SECRET", None) or None
    if shutil.which(kubectl.command[0]):
        _read_overlay(facts, options, kubectl, bundle)
        _read_cluster(facts, kubectl, bundle)
    else:
        facts.problems.append("There is neither kubectl nor k3s on PATH: run scripts/install-k3s.sh first.")
    facts.discovery = read_discovery(settings_of(facts.rendering))
    if not bundle and own_images(facts.rendering.images):
        try:
            facts.builder = choose_builder(options.builder)
        except DeployError as error:
            facts.problems.append(str(error))
    return facts


def _read_overlay(facts: Facts, options: Options, kubectl: Kubectl, bundle: Bundle | None) -> None:
    with contextlib.suppress(DeployError):  # _read_cluster reports a cluster that does not answer
        facts.overlay_before = deployed_overlay(kubectl)
    root, bundled = (bundle.root, bundle.overlay) if bundle else (None, None)
    facts.overlay = given_overlay(options.overlay, root) or bundled or facts.overlay_before or DEFAULT
    try:
        facts.rendering = render(kubectl, folder_of(facts.overlay, root))
    except DeployError as error:
        facts.problems.append(str(error))


def _read_cluster(facts: Facts, kubectl: Kubectl, bundle: Bundle | None) -> None:
    try:
        server = json.loads(kubectl.run("version", "--output=json"))["serverVersion"]
    except DeployError as error:
        reason = str(error).splitlines()[-1]
        facts.problems.append(
            f"kubectl cannot reach the cluster ({reason}): start it, set KUBECONFIG, or run scripts/install-k3s.sh."
        )
        return
    facts.version = int(server["major"]), int(server["minor"].rstrip("+"))
    own = ("--namespace", NAMESPACE)
    try:
        facts.nodes = read_nodes(kubectl)
        facts.networks = read_networks(kubectl, facts.nodes)
        facts.api_servers = read_api_servers(kubectl)
        facts.settings = kubectl.get("configmap", AIRFLOW_SETTINGS, *own)
        if not bundle:  # imported images have no registry digest; the bundle's checksums cover them
            facts.digests = digests.recorded(kubectl)
        facts.secret_keys = secrets.existing_keys(kubectl)
        facts.volumes = volumes.live_volumes(kubectl, facts.rendering.volumes())
        facts.source = kubectl.get("endpointslice", SOURCE, *own) or {}
        facts.trust = (kubectl.get("configmap", TRUST, *own) or {}).get("data") or {}
    except DeployError as error:
        facts.problems.append(str(error))
    else:
        facts.is_complete = True


def _source_password(options: Options, problems: list[str]) -> str | None:
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
