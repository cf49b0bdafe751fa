"""The plan: what will be deployed where, computed from the facts and the options alone."""

import copy
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ops.cluster.console import DeployError
from ops.cluster.names import PLACEHOLDER, UI_NAME
from ops.cluster.nodes import Node, choose_data_node
from ops.cluster.objects import endpoint_addresses
from ops.cluster.secret_keys import SOURCE_KEY
from ops.deploy.data import volumes
from ops.deploy.images import digests
from ops.deploy.images.builders import Builder
from ops.deploy.images.bundle import Bundle
from ops.deploy.images.platforms import without_propagation
from ops.deploy.manifests import trust
from ops.deploy.manifests.identity import set_ports, settings_of
from ops.deploy.manifests.launched_pods import allow_images_before
from ops.deploy.manifests.network import set_api_servers, set_pods_network
from ops.deploy.manifests.overlays import remember
from ops.deploy.manifests.rendering import SOURCE_IS_NODE, Rendering, set_data_folder, set_source_address
from ops.deploy.options import Options
from ops.deploy.preflight.facts import Facts
from ops.deploy.secrets.certificates import SQL_SERVER, CertificateSpec, ui_certificate


@dataclass(frozen=True)
class Plan:
    """The overlay with the settings of this cluster, and what its deployment needs."""

    overlay: str
    rendering: Rendering
    nodes: list[Node]
    data_node: Node | None
    builder: Builder | None
    digests: dict[str, str]
    """The known digests of pulled images, by image and tag."""
    digests_before: dict[str, str]
    source_address: str
    source_before: str
    """The source's address until now, if it was that of the data node."""
    trust: dict[str, str]
    """The TLS settings."""
    source_password: str | None
    asks_for_source_password: bool
    oidc_secret: str | None
    """Of the client at the identity provider."""
    unpropagated: list[str]
    """The workloads whose mounts of `/` had to lose their propagation."""

    @property
    def this_node(self) -> Node | None:
        """The node into which images are imported: this machine, or the only one there is."""
        here = [node for node in self.nodes if node.is_this_machine]
        return here[0] if here else self.nodes[0] if len(self.nodes) == 1 else None

    @property
    def chosen_node(self) -> Node:
        """The node with the data. Raises DeployError if there is none, which preflight reports before."""
        if self.data_node is None:
            raise DeployError("The cluster has no node for the data.")
        return self.data_node

    @property
    def certificates(self) -> list[CertificateSpec]:
        """The certificates that are needed."""
        node = self.data_node
        ui = ui_certificate([self.trust.get(UI_NAME, ""), *([node.name, node.address] if node else [])])
        shown = [item for item in self.rendering.of_kind("Ingress") if item["spec"].get("tls")]
        return [*([SQL_SERVER] if trust.has_sql_server(self.rendering) else []), *([ui] if shown and node else [])]

    @property
    def has_data_here(self) -> bool:
        """Whether the volumes are on this machine."""
        return self.data_node is not None and self.data_node.is_this_machine


def make_plan(options: Options, facts: Facts, bundle: Bundle | None) -> Plan:
    """Decide everything. Facts that could not be read leave the overlay as it is."""
    rendering, data_node = copy.deepcopy(facts.rendering), choose_data_node(facts.nodes)
    remember(rendering, facts.overlay)
    set_api_servers(rendering.objects, facts.api_servers)
    set_pods_network(rendering.objects, facts.networks.pods)
    allow_images_before(rendering, facts.settings)
    known = {} if bundle or options.new_digests else _digests(facts, rendering, data_node)
    digests.pin(rendering, known)
    if folder := options.data_folder or next(iter(live_data_folders(facts)), None):
        set_data_folder(rendering, PurePosixPath(folder))
    address, is_node, before = _source_address(options, facts, data_node)
    if address:
        set_source_address(rendering, address, is_node=is_node)
    chosen = trust.choose_trust(options, facts.trust)
    trust.set_connections(rendering, chosen, address)
    settings = settings_of(rendering)
    set_ports(rendering, settings)
    return Plan(
        overlay=facts.overlay,
        rendering=rendering,
        nodes=facts.nodes,
        data_node=data_node,
        builder=facts.builder,
        digests=known,
        digests_before=facts.digests,
        source_address=address,
        source_before=before,
        trust=chosen,
        source_password=facts.source_password,
        asks_for_source_password=facts.can_ask and is_source_password_missing(facts),
        oidc_secret=facts.oidc_secret if settings else None,
        unpropagated=without_propagation(rendering) if facts.is_node and not facts.root_is_shared else [],
    )


def live_data_folders(facts: Facts) -> set[Path]:
    """The folders with the data. A PersistentVolume cannot be moved, so they take precedence over the manifests."""
    return {path.parent for path in volumes.local_folders(facts.volumes).values()}


def is_source_password_missing(facts: Facts) -> bool:
    """Whether the source's password was not given, now or before."""
    return facts.is_complete and facts.source_password is None and SOURCE_KEY not in facts.secret_keys


def _digests(facts: Facts, rendering: Rendering, data_node: Node | None) -> dict[str, str]:
    """The digests of earlier runs, else those that nodes list, the data node first."""
    pinnable = digests.can_be_pinned(rendering)
    nodes = sorted(facts.nodes, key=lambda node: node != data_node)
    recorded = {image: digest for image, digest in facts.digests.items() if image in pinnable}
    return digests.on_nodes(nodes, pinnable) | recorded


def _source_address(options: Options, facts: Facts, data_node: Node | None) -> tuple[str, bool, str]:
    """The source's address, whether it is the data node's, and the address until now if it was the data node's."""
    annotations = facts.source.get("metadata", {}).get("annotations") or {}
    follows = annotations.get(SOURCE_IS_NODE) == "true"
    before = next((address for address in endpoint_addresses(facts.source) if address != PLACEHOLDER), "")
    node = data_node.address if data_node else ""
    address = options.source_address or ("" if follows else before) or node
    return address, not options.source_address and (follows or not before), before if follows else ""
